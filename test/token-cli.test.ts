import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { SignJWT } from 'jose'
import { AccessToken } from 'livekit-server-sdk'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import { createAgentAccounts } from '../src/agent/accounts.ts'
import { newSigningKey } from '../src/auth/keys.ts'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { createAccessTokens } from '../src/auth/tokens.ts'
import { run } from '../src/cli/token.ts'
import { openReadOnly } from '../src/store/sqlite/read-only.ts'
import { agentToken } from './agent-client.ts'
import { CLI } from './cli-sandbox.ts'
import { newDatabase, onPostgres } from './database.ts'
import { outcomeOf } from './outcome.ts'
import { makeApp, post } from './support.ts'

const PAIR = { LIVEKIT_API_KEY: 'ours', LIVEKIT_API_SECRET: 'a-secret-of-ours-that-has-32-chars!' }
const WEBHOOK_PAIR = {
  LIVEKIT_WEBHOOK_API_KEY: 'hooks',
  LIVEKIT_WEBHOOK_API_SECRET: 'another-secret-that-has-32-chars!!',
}

const JoinAnswer = z.object({ token: z.string(), room: z.string(), session_id: z.string() })

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  vi.useRealTimers()
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

function newFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-token-'))
  cleanups.push(() => rmSync(folder, { recursive: true }))
  return folder
}

/** A service on a store of its own, and the command beside it. */
async function scene() {
  const env = { DATABASE_URL: await newDatabase({ lasts: true }), ...PAIR, ...WEBHOOK_PAIR }
  const t = await makeApp({ databaseUrl: env.DATABASE_URL, env })
  cleanups.push(() => t.store.close())
  const signedIn = SignedInResponse.parse(await (await post(t.app, '/auth/guest', { name: 'Ada' })).json())
  const accounts = createAgentAccounts(t.store)
  const mint = async (request: Record<string, unknown> = {}) =>
    JoinAnswer.parse(await (await post(t.app, '/token', request, signedIn.access_token)).json())
  return {
    ...t,
    env,
    user: signedIn,
    accounts,
    mint,
    tokens: createAccessTokens({
      keys: t.keys,
      users: t.store.users,
      publicUrl: t.config.publicUrl,
      clock: t.store.clock,
    }),
    inspect: (token: string, more: Record<string, string> = {}) => inspect(token, { ...env, ...more }),
  }
}

/** Runs the command in this process with stdin, in both output formats; the token must not be printed. */
async function inspect(token: string, env: Record<string, string>) {
  const once = async (...args: string[]) => {
    const { code, out, err } = await outcomeOf(run, ['inspect', '-', ...args], env, `${token}\n`)
    const printed = [...out, ...err].join('\n')
    for (const part of [token, token.split('.')[2], ...SECRETS]) if (part) expect(printed).not.toContain(part)
    expect(err).toEqual([])
    return { code, printed }
  }
  const words = await once()
  const { code, printed } = await once('--json')
  expect(words.code).toBe(code)
  return { code, words: words.printed, report: JSON.parse(printed) }
}

const SECRETS = [PAIR.LIVEKIT_API_SECRET, WEBHOOK_PAIR.LIVEKIT_WEBHOOK_API_SECRET]

describe('npm run token -- inspect', () => {
  it('explains a user’s access token', async () => {
    const { inspect, user } = await scene()
    const { code, words, report } = await inspect(user.access_token)
    expect(report).toMatchObject({
      kind: 'user_access',
      valid: true,
      signature: 'ours',
      expired: false,
      for: [`user ${user.user.id}`],
      problems: [],
      header: { alg: 'ES256', typ: 'at+jwt', kid: expect.any(String) },
      claims: { sub: user.user.id },
    })
    expect(code).toBe(0)
    expect(words).toMatch(
      /^A user’s access token.*\n\nvalid +yes\nsignature +verified\nexpires +\S+, in 1[45] minutes\n/,
    )
  })

  // With PostgreSQL the time is the database's, which no fake changes.
  const itsOwnTime = onPostgres() ? () => {} : it
  itsOwnTime('says that a token has expired, and when', async () => {
    const s = await scene()
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3600_000 })
    const { code, words, report } = await s.inspect(s.user.access_token)
    expect(code).toBe(1)
    expect(report).toMatchObject({ valid: false, signature: 'ours', expired: true })
    expect(report.problems).toEqual([`It expired at ${report.expiresAt}.`])
    expect(words).toMatch(/expires +\S+, 45 minutes ago/)
  })

  it('explains an agent’s access token, and when its account voids it', async () => {
    const s = await scene()
    const agent = await s.accounts.create('tutor', ['progress:write'])
    const token = await agentToken(s.app, agent)
    expect(await s.inspect(token)).toMatchObject({
      code: 0,
      report: { kind: 'agent_access', for: ['agent tutor'], allows: ['progress:write'] },
    })
    await s.accounts.disable('tutor')
    expect(await s.inspect(token)).toMatchObject({ code: 1, report: { problems: ['This agent account is disabled.'] } })
    await s.accounts.enable('tutor')
    await s.accounts.rekey('tutor')
    const { code, report } = await s.inspect(token)
    expect({ code, problems: report.problems }).toEqual({
      code: 1,
      problems: ['The agent’s earlier tokens were revoked: ask for a new one.'],
    })
  })

  it('explains a join token', async () => {
    const s = await scene()
    await s.accounts.create('tutor', [])
    const minted = await s.mint({ room_config: { agents: [{ agent_name: 'tutor' }] } })
    const { code, report } = await s.inspect(minted.token)
    expect(code).toBe(0)
    expect(report).toMatchObject({ kind: 'livekit_join', signature: 'ours', problems: [] })
    expect(report.for).toEqual([
      `identity ${s.user.user.id}`,
      'named Ada',
      `user ${s.user.user.id}`,
      `session ${minted.session_id}`,
    ])
    expect(report.allows).toEqual([
      `joining only the room ${minted.room}`,
      'publishing audio and video',
      'receiving audio and video',
      'sending data',
      'dispatching the agent tutor, if this join creates the room',
    ])
  })

  it('explains a webhook’s signature, and which key pair must sign it', async () => {
    const s = await scene()
    const sign = (key: string, secret: string) => {
      const token = new AccessToken(key, secret, { ttl: 300 })
      token.sha256 = 'aGFzaA=='
      return token.toJwt()
    }
    const { LIVEKIT_WEBHOOK_API_KEY: key, LIVEKIT_WEBHOOK_API_SECRET: secret } = WEBHOOK_PAIR
    expect(await s.inspect(await sign(key, secret))).toMatchObject({
      code: 0,
      report: { kind: 'livekit_webhook', signature: 'ours', valid: true },
    })
    expect(await s.inspect(await sign('ours', PAIR.LIVEKIT_API_SECRET))).toMatchObject({
      code: 1,
      report: {
        signature: 'foreign',
        problems: ['It names the key ours; LIVEKIT_WEBHOOK_API_KEY is hooks.'],
      },
    })
  })

  it.each([
    ['another key', 'theirs', PAIR.LIVEKIT_API_SECRET, /^It names the key theirs; LIVEKIT_API_KEY is ours\.$/],
    ['another secret', 'ours', 'x'.repeat(32), /^It names the key ours but was not signed with LIVEKIT_API_SECRET/],
  ])('explains a join token of %s, and which grants Behalf never gives', async (_, key, secret, problem) => {
    const { inspect } = await scene()
    const foreign = new AccessToken(key, secret, { identity: 'agent_bot', ttl: 900 })
    foreign.addGrant({ roomJoin: true, room: 'lesson', roomAdmin: true })
    const { code, report } = await inspect(await foreign.toJwt())
    expect(code).toBe(1)
    expect(report).toMatchObject({
      kind: 'livekit_join',
      signature: 'foreign',
      problems: [expect.stringMatching(problem)],
    })
    expect(report.allows).toContain('roomAdmin (never granted by this service)')
  })

  it('accepts only a signature by the service’s own keys', async () => {
    const s = await scene()
    const [header, claims, signature] = s.user.access_token.split('.')
    const changed = Buffer.from(JSON.stringify({ ...claimsOf(s.user.access_token), sub: 'user_2' })).toString(
      'base64url',
    )
    const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'at+jwt' })).toString('base64url')
    const hs256 = await new SignJWT(claimsOf(s.user.access_token))
      .setProtectedHeader({ alg: 'HS256', typ: 'at+jwt', kid: s.keys.current().kid })
      .sign(Buffer.from(PAIR.LIVEKIT_API_SECRET))
    const theirs = await makeApp()
    const stranger = createAccessTokens({
      keys: theirs.keys,
      users: theirs.store.users,
      publicUrl: s.config.publicUrl,
      clock: theirs.store.clock,
    })
    for (const token of [
      `${header}.${changed}.${signature}`,
      `${none}.${claims}.`,
      hs256,
      await stranger.issueUserToken({ userId: s.user.user.id, signInId: 'fam_1' }),
    ]) {
      const { code, report } = await s.inspect(token)
      expect({ code, ...report }).toMatchObject({
        code: 1,
        signature: 'foreign',
        problems: ['None of this service’s keys signed it.'],
      })
    }
  })

  it('reports another issuer, with the service’s own verdict', async () => {
    const s = await scene()
    const { code, report } = await s.inspect(s.user.access_token, { PUBLIC_URL: 'https://api.behalf.test' })
    expect({ code, signature: report.signature }).toEqual({ code: 1, signature: 'ours' })
    expect(report.problems).toEqual([
      `Its issuer is ${s.config.publicUrl}; PUBLIC_URL is https://api.behalf.test.`,
      `Its audience is ${s.config.publicUrl}, not https://api.behalf.test.`,
    ])
    const wrong = await s.tokens.issueUserToken({ userId: 'nobody', signInId: 'fam_1' })
    expect((await s.inspect(wrong)).report.problems).toEqual(['The access token is not valid here.'])
  })

  it('creates neither a database nor a key', async () => {
    const folder = newFolder()
    const s = await scene()
    const { code, report } = await s.inspect(s.user.access_token, { DATABASE_URL: `file:${folder}/sub/x.db` })
    expect(code).toBe(1)
    expect(report).toMatchObject({
      signature: 'unknown',
      problems: [
        expect.stringMatching(
          /^Access tokens cannot be checked with .*: There is no store at .* start the service to create it\.$/,
        ),
      ],
    })
    expect(readdirSync(folder)).toEqual([])

    const empty = await makeApp({ databaseUrl: `file:${folder}/empty.db` })
    await empty.store.close()
    const readOnly = openReadOnly(`file:${folder}/empty.db`)
    await expect(readOnly.keys.addFirstSigningKey(await newSigningKey(0))).rejects.toThrow('reading only')
    await readOnly.close()
  })

  it('describes a string that is not a JWT only by its form', async () => {
    const s = await scene()
    const { code, report } = await s.inspect(s.user.refresh_token)
    expect({ code, kind: report.kind }).toEqual({ code: 1, kind: 'no_jwt' })
    expect(report.problems).toEqual([expect.stringMatching(/Refresh tokens/)])
    expect(await s.inspect('not a token')).toMatchObject({ code: 1, report: { kind: 'no_jwt' } })
  })

  it('escapes terminal control characters in claims', async () => {
    const token = new AccessToken('ours', 'x'.repeat(32), {
      identity: 'a\u001b[2Jb\u009b\u202e\u2028\u3164',
      name: 'a\nvalid yes',
    })
    token.addGrant({ roomJoin: true, room: 'r' })
    const { words, report } = await inspect(await token.toJwt(), { DATABASE_URL: 'file:./none.db', ...PAIR })
    expect(words).not.toMatch(/[^\P{C}\n]|[\u2028\u3164]/u)
    expect(words).not.toMatch(/^valid +yes/m)
    expect(report.claims.sub).toBe('a\u001b[2Jb\u009b\u202e\u2028\u3164')
  })
})

describe('npm run token', { timeout: 30_000 }, () => {
  async function cli(args: string[], stdin: string, env: Record<string, string> = {}) {
    const options = { cwd: newFolder(), env: { PATH: process.env.PATH, ...env } }
    const child = spawn(process.execPath, [CLI, ...args], options)
    child.stdin.end(stdin)
    const exit = new Promise<number | null>((resolve) => child.once('close', resolve))
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
    return { code: await exit, stdout, stderr, files: existsSync(join(options.cwd, 'data')) }
  }

  it('reads the token from stdin', async () => {
    const { env, user } = await scene()
    const { code, stdout, stderr } = await cli(
      ['token', 'inspect', '-', '--json'],
      `Bearer ${user.access_token}\n`,
      env,
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({ valid: true })
  })

  it.each([
    [0, ['--help'], '', /npm run agent[\s\S]*npm run token/],
    [0, ['token', '--help'], '', /inspect - .*stdin/],
    [2, ['tokens'], '', /^Unknown command "tokens"/],
    [2, ['token'], '', /^The only command is inspect/],
    [2, ['token', 'eyJhbGciOiJIUzI1NiJ9'], '', /^The only command is inspect/],
    [2, ['token', 'inspect'], '', /^inspect takes one token/],
    [2, ['token', 'inspect', 'a', 'b'], '', /^inspect takes one token/],
    [2, ['token', 'inspect', 'a', '--secret'], '', /^Unknown option/],
    [2, ['token', 'inspect', '-'], ' \n', /^The token is empty/],
  ])('exits with %d for %j', async (code, args, stdin, line) => {
    const ended = await cli(args, stdin)
    expect(ended).toMatchObject({ code, files: false })
    expect(ended.stdout + ended.stderr).toMatch(line)
    if (code === 2) expect(ended).toMatchObject({ stdout: '', stderr: expect.stringMatching(/^[^\n]+\n$/) })
    expect(ended.stdout + ended.stderr).not.toContain('eyJ')
  })
})

const claimsOf = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
