import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { run } from '../src/cli/agent.ts'
import { agentToken, basic, GRANT, guardedRoute, requestToken } from './agent-client.ts'
import { cliSandbox } from './cli-sandbox.ts'
import { newDatabase, stored } from './database.ts'
import { outcomeOf } from './outcome.ts'
import { makeApp } from './support.ts'

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** A folder with a database of its own, and `agent` as a real process in it. */
async function agentSandbox() {
  const { folder, databaseUrl, start, remove } = cliSandbox(await newDatabase({ lasts: true }))
  cleanups.push(remove)
  const agent = (env: Record<string, string>, args: string[]) => start(env, ['agent', ...args])
  return { folder, databaseUrl, start: agent, cli: (...args: string[]) => agent({ DATABASE_URL: databaseUrl }, args) }
}

/** The same with the service open on that database. */
async function sandboxWithApp() {
  const here = await agentSandbox()
  const test = await makeApp({ databaseUrl: here.databaseUrl })
  cleanups.push(() => test.store.close())
  return { ...here, test, app: test.app }
}

describe('npm run agent', { timeout: 30_000 }, () => {
  it('creates an agent that the running service accepts, and stores no plaintext secret', async () => {
    const { app, cli, databaseUrl } = await sandboxWithApp()
    const { code, stdout, stderr } = await cli('create', 'tutor', '--json')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const created = JSON.parse(stdout)
    expect(created).toEqual({
      id: 'tutor',
      secret: expect.stringMatching(/^[\w-]{43}$/),
      scopes: ['progress:write', 'context:read', 'session:end'],
    })
    expect((await requestToken(app, GRANT, basic(created.id, created.secret))).status).toBe(200)
    const onDisk = JSON.stringify(await stored(databaseUrl))
    expect(onDisk.includes('tutor')).toBe(true)
    expect(onDisk.includes(created.secret)).toBe(false)
  })

  it('grants only the scopes it was given', async () => {
    const { app, cli } = await sandboxWithApp()
    const { stdout } = await cli('create', 'tutor', '--scope', 'session:end', '--scope', 'context:read', '--json')
    const { id, secret, scopes } = JSON.parse(stdout)
    expect(scopes).toEqual(['context:read', 'session:end'])
    const answer = await requestToken(app, { ...GRANT, scope: 'progress:write' }, basic(id, secret))
    expect(await answer.json()).toMatchObject({ error: 'invalid_scope' })
  })

  it('disables and enables an agent with effect from the next request', async () => {
    const { app, test, cli } = await sandboxWithApp()
    const agent = JSON.parse((await cli('create', 'tutor', '--json')).stdout)
    const ask = guardedRoute(test, 'progress:write')
    const token = await agentToken(app, agent)
    expect(await ask(token)).toMatchObject({ status: 200 })

    expect(await cli('disable', 'tutor')).toMatchObject({ code: 0, stderr: '' })
    expect(await ask(token)).toMatchObject({ status: 403, code: 'agent_disabled' })
    expect((await requestToken(app, GRANT, basic(agent.id, agent.secret))).status).toBe(401)

    expect(await cli('enable', 'tutor')).toMatchObject({ code: 0, stderr: '' })
    expect(await ask(token)).toMatchObject({ status: 401, code: 'invalid_token' })
    expect(await ask(await agentToken(app, agent))).toMatchObject({ status: 200 })
  })

  it('sets a new secret, which invalidates the old one and tokens issued before', async () => {
    const { app, test, cli } = await sandboxWithApp()
    const old = JSON.parse((await cli('create', 'tutor', '--json')).stdout)
    const ask = guardedRoute(test, 'progress:write')
    const token = await agentToken(app, old)

    const { code, stdout } = await cli('rekey', 'tutor', '--json')
    const renewed = JSON.parse(stdout)
    expect(code).toBe(0)
    expect(renewed).toEqual({ id: 'tutor', secret: expect.any(String), scopes: old.scopes })
    expect(await ask(token)).toMatchObject({ status: 401, code: 'invalid_token' })
    expect((await requestToken(app, GRANT, basic(old.id, old.secret))).status).toBe(401)
    expect(await ask(await agentToken(app, renewed))).toMatchObject({ status: 200 })
  })

  it('adds a second secret while workers still use the first', async () => {
    const { app, test, cli } = await sandboxWithApp()
    const old = JSON.parse((await cli('create', 'tutor', '--json')).stdout)
    const ask = guardedRoute(test, 'progress:write')
    const token = await agentToken(app, old)

    const { code, stdout } = await cli('rekey', 'tutor', '--overlap', '30', '--json')
    const renewed = JSON.parse(stdout)
    expect(code).toBe(0)
    const until = Date.parse(renewed.oldSecretUntil) - Date.now()
    expect(until).toBeGreaterThan(25 * 60_000)
    expect(until).toBeLessThanOrEqual(30 * 60_000)
    expect(await ask(token)).toMatchObject({ status: 200 })
    for (const { id, secret } of [old, renewed]) {
      expect((await requestToken(app, GRANT, basic(id, secret))).status).toBe(200)
    }
    expect((await cli('list')).stdout).toContain(`old secret until ${renewed.oldSecretUntil}`)
    test.clock.advance(31 * 60)
    expect((await requestToken(app, GRANT, basic(old.id, old.secret))).status).toBe(401)
    expect(await ask(await agentToken(app, renewed))).toMatchObject({ status: 200 })
  })

  it('lists the agents without their secret hashes', async () => {
    const { cli } = await sandboxWithApp()
    expect(await cli('list')).toEqual({ code: 0, stdout: 'There are no agents yet.\n', stderr: '' })
    expect((await cli('list', '--json')).stdout).toBe('[]\n')
    await cli('create', 'tutor')
    await cli('create', 'coach', '--scope', 'rooms:join', '--summon', 'none')
    await cli('disable', 'coach')
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    expect(JSON.parse((await cli('list', '--json')).stdout)).toEqual([
      {
        id: 'tutor',
        scopes: ['progress:write', 'context:read', 'session:end'],
        summon: 'any',
        createdAt: time,
        disabledAt: null,
        oldSecretUntil: null,
      },
      { id: 'coach', scopes: ['rooms:join'], summon: 'none', createdAt: time, disabledAt: time, oldSecretUntil: null },
    ])
    expect((await cli('list')).stdout).toMatch(/^tutor {2}enabled .*\ncoach {2}disabled .*rooms:join\n$/)
  })

  it('changes scopes and who may summon an account, each without the other', async () => {
    const { cli } = await sandboxWithApp()
    await cli('create', 'tutor')
    const rights = async () => {
      const [{ scopes, summon }] = JSON.parse((await cli('list', '--json')).stdout)
      return [scopes, summon]
    }
    const set = async (...options: string[]) => (await cli('set', 'tutor', ...options)).stdout
    expect(await set('--summon', 'none')).toBe('tutor is changed.\n')
    expect(await rights()).toEqual([['progress:write', 'context:read', 'session:end'], 'none'])
    expect(await set('--scope', 'sessions:any', '--scope', 'progress:write')).toBe('tutor is changed.\n')
    expect(await rights()).toEqual([['progress:write', 'sessions:any'], 'none'])
  })

  it('reads .env in the working directory', async () => {
    const { folder, databaseUrl, start, cli } = await agentSandbox()
    writeFileSync(join(folder, '.env'), `DATABASE_URL=${databaseUrl}\n`)
    expect(await start({}, ['create', 'tutor'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^BEHALF_AGENT_ID=tutor\nBEHALF_AGENT_SECRET=\S{40,}\n/),
    })
    expect(JSON.parse((await cli('list', '--json')).stdout)).toMatchObject([{ id: 'tutor' }])
  })

  it('reads .env.local before .env, whatever editor wrote them, and the environment before both', async () => {
    const { folder, databaseUrl, start } = await agentSandbox()
    writeFileSync(join(folder, '.env.local'), `\ufeffDATABASE_URL=${databaseUrl}\r\n`)
    writeFileSync(join(folder, '.env'), 'DATABASE_URL=from .env\n')
    expect(await start({}, ['create', 'tutor'])).toMatchObject({ code: 0 })
    writeFileSync(join(folder, '.env.local'), Buffer.from(`\ufeffDATABASE_URL="${databaseUrl}" # ours`, 'utf16le'))
    expect(await start({}, ['list'])).toMatchObject({ stdout: expect.stringMatching(/^tutor /) })
    expect(await start({ DATABASE_URL: 'file:other.db' }, ['list'])).toMatchObject({ code: 1 })
  })

  it('refuses a value in .env that an unquoted # would cut, and names the line', async () => {
    const { folder, start } = await agentSandbox()
    writeFileSync(join(folder, '.env'), '# LIVEKIT_API_SECRET=a#b\nCOLOR=#fff\nLIVEKIT_API_SECRET=abc#def # comment\n')
    const stderr = 'LIVEKIT_API_SECRET: put quotes around the value in .env line 3: # begins a comment\n'
    expect(await start({}, ['list'])).toEqual({ code: 2, stdout: '', stderr })
  })

  it('warns about a setting whose name is nearly right', async () => {
    const { databaseUrl, start } = await agentSandbox()
    const { stderr } = await start({ DATABSE_URL: databaseUrl }, ['list'])
    expect(stderr).toMatch(/^WARNING: DATABSE_URL is not a setting: is DATABASE_URL meant\?\n/)
  })

  it('ignores .env in production, as the service does', async () => {
    const { folder, start } = await agentSandbox()
    writeFileSync(join(folder, '.env'), 'DATABASE_URL=from the file\n')
    expect(await start({}, ['list'])).toMatchObject({ stderr: expect.stringContaining('DATABASE_URL') })
    const inProduction = await start({ NODE_ENV: 'production' }, ['list'])
    expect(inProduction.stderr).toMatch(/^There is no store at .*behalf\.db: /)
  })

  it.each([
    [1, ['rekey', 'nobody'], /^No agent is named nobody\.\n$/],
    [2, ['delete', 'tutor'], /^Unknown command delete.*\n$/],
  ])('exits with %d and one line on stderr for %j', async (code, args, line) => {
    const { cli } = await sandboxWithApp()
    expect(await cli(...args)).toEqual({ code, stdout: '', stderr: expect.stringMatching(line) })
  })

  it.each([
    [1, ['create', 'User'], /^A name has 2 to 63 .*$/],
    [1, ['disable', 'nobody'], /^No agent is named nobody\.$/],
    [1, ['enable', 'nobody'], /^No agent is named nobody\.$/],
    [2, [], /^Name a command.*$/],
    [2, ['create'], /^create takes one name.*$/],
    [2, ['create', 'a1', 'b2'], /^create takes one name.*$/],
    [
      2,
      ['create', 'tutor', '--scope', 'everything'],
      /^Unknown scope everything\. The scopes are progress:write, context:read, session:end, rooms:join, sessions:any, calls:place\.$/,
    ],
    [1, ['set', 'nobody', '--summon', 'any'], /^No agent is named nobody\.$/],
    [2, ['set', 'tutor'], /^set takes --scope, --summon or both\.$/],
    [2, ['set', 'tutor', '--summon', 'all'], /^--summon takes any or none\.$/],
    [2, ['list', '--summon', 'any'], /^list does not take --summon\.$/],
    [2, ['create', 'tutor', '--secret', 'x'], /^Unknown option '--secret'.*$/],
    [2, ['disable', 'tutor', '--json'], /^disable does not take --json\.$/],
    [2, ['rekey', 'tutor', '--overlap', '0'], /^--overlap takes whole minutes.*$/],
    [2, ['rekey', 'tutor', '--overlap', '1.5'], /^--overlap takes whole minutes.*$/],
    [2, ['rekey', 'tutor', '--overlap', '10081'], /^--overlap takes whole minutes.*$/],
    [2, ['create', 'tutor', '--overlap', '5'], /^create does not take --overlap\.$/],
    [2, ['list', 'tutor'], /^list takes no name.*$/],
    [2, ['toString'], /^Unknown command toString.*$/],
  ])('exits with %d and one error for %j', async (code, args, line) => {
    const { databaseUrl } = await sandboxWithApp()
    const expected = { code, out: [], err: [expect.stringMatching(line)] }
    expect(await outcomeOf(run, args, { DATABASE_URL: databaseUrl })).toEqual(expected)
  })

  it('refuses a name that is taken', async () => {
    const { cli } = await agentSandbox()
    await cli('create', 'tutor')
    const again = await cli('create', 'tutor', '--json')
    expect(again).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^An agent named tutor already exists.*\n$/),
    })
  })

  it('reports wrong settings and a file that cannot be opened in one line', async () => {
    const { folder, start } = await agentSandbox()
    const settings = await start({ DATABASE_URL: 'x', NODE_ENV: 'prod' }, ['list'])
    expect(settings).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^NODE_ENV: .*DATABASE_URL: .*\n$/),
    })
    const file = await start({ DATABASE_URL: `file:${folder}` }, ['list'])
    expect(file).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^.+\n$/) })
  })
})
