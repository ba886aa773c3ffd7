import { decodeProtectedHeader } from 'jose'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newSigningKey } from '../src/auth/keys.ts'
import { remove, rotate } from '../src/auth/rotation.ts'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { run } from '../src/cli/keys.ts'
import { cliSandbox } from './cli-sandbox.ts'
import { execute, newDatabase } from './database.ts'
import { outcomeOf } from './outcome.ts'
import { makeApp, post, type TestApp } from './support.ts'

const MINUTE = 60

let sandbox: ReturnType<typeof cliSandbox>
beforeEach(async () => {
  sandbox = cliSandbox(await newDatabase({ lasts: true }))
})
afterEach(() => sandbox.remove())

const signIn = async ({ app }: TestApp) =>
  SignedInResponse.parse(await (await post(app, '/auth/guest', {})).json()).access_token
const kidOf = (token: string) => decodeProtectedHeader(token).kid
const me = async ({ app }: TestApp, token: string) =>
  (await app.request('/auth/me', { headers: { Authorization: `Bearer ${token}` } })).status

async function published({ app }: TestApp): Promise<string[]> {
  const { keys } = (await (await app.request('/.well-known/jwks.json')).json()) as { keys: Array<{ kid: string }> }
  return keys.map(({ kid }) => kid)
}

/** The rotation as the command does it, by the test's clock, in the store only. */
async function rotateIn({ store, clock }: TestApp) {
  const next = await newSigningKey(clock.now())
  await store.keys.changeSigningKeys((keys) => rotate(keys, next, clock.now()))
  clock.advance(1)
  return next.kid
}

describe('a key rotation', () => {
  test('publishes the new key at once, and signs with it once every cached JWKS has it', async () => {
    const t = await makeApp()
    const old = await signIn(t)
    const next = await rotateIn(t)
    expect(await published(t)).toEqual([kidOf(old), next])
    t.clock.advance(5 * MINUTE)
    expect(kidOf(await signIn(t))).toBe(kidOf(old))
    t.clock.advance(10)
    expect(kidOf(await signIn(t))).toBe(next)
    expect(await me(t, await signIn(t))).toBe(200)
  })

  test('keeps the old key published until its last token has expired (A10)', async () => {
    const t = await makeApp()
    const first = await signIn(t)
    await rotateIn(t)
    t.clock.advance(5 * MINUTE + 8)
    const last = await signIn(t)
    expect(kidOf(last)).toBe(kidOf(first))
    t.clock.advance(15 * MINUTE)
    expect(await me(t, last)).toBe(200)
    t.clock.advance(4)
    expect(await me(t, last)).toBe(200)
    expect(await published(t)).toContain(kidOf(last))
    t.clock.advance(MINUTE - 2)
    expect(await published(t)).not.toContain(kidOf(last))
    expect(await published(t)).toHaveLength(1)
  })

  test('is refused while another is in progress', async () => {
    const t = await makeApp()
    await rotateIn(t)
    await expect(rotateIn(t)).rejects.toMatchObject({ message: expect.stringContaining('A rotation is under way') })
    t.clock.advance(5 * MINUTE + 10)
    await rotateIn(t)
    expect(await published(t)).toHaveLength(3)
  })

  test('can be undone before the new key signs', async () => {
    const t = await makeApp()
    const old = await signIn(t)
    const next = await rotateIn(t)
    await t.store.keys.changeSigningKeys((keys) => remove(keys, next, t.clock.now()))
    t.clock.advance(60 * MINUTE)
    expect(await published(t)).toEqual([kidOf(old)])
    expect(kidOf(await signIn(t))).toBe(kidOf(old))
  })

  test('lets pruning delete retired keys after a day', async () => {
    const t = await makeApp()
    await rotateIn(t)
    t.clock.advance(24 * 60 * MINUTE)
    await t.prune()
    expect(await t.store.keys.signingKeys()).toHaveLength(2)
    t.clock.advance(60 * MINUTE)
    await t.prune()
    expect(await t.store.keys.signingKeys()).toHaveLength(1)
    expect(await me(t, await signIn(t))).toBe(200)
  })
})

describe('a removed signing key', () => {
  test('invalidates its own tokens and no others (A10)', async () => {
    const t = await makeApp()
    const old = await signIn(t)
    await rotateIn(t)
    t.clock.advance(5 * MINUTE + 10)
    const fresh = await signIn(t)
    expect(await me(t, old)).toBe(200)
    await t.store.keys.changeSigningKeys((keys) => remove(keys, String(kidOf(old)), t.clock.now()))
    t.clock.advance(1)
    expect(await me(t, old)).toBe(401)
    expect(await me(t, fresh)).toBe(200)
    expect(await published(t)).toEqual([kidOf(fresh)])
  })

  test('must exist, and must not be the one that signs', async () => {
    const t = await makeApp()
    const kid = String(kidOf(await signIn(t)))
    const without = (one: string) => t.store.keys.changeSigningKeys((keys) => remove(keys, one, t.clock.now()))
    await expect(without(kid)).rejects.toMatchObject({ message: expect.stringContaining('is the one that signs') })
    await rotateIn(t)
    await expect(without(kid)).rejects.toMatchObject({ message: expect.stringContaining('is the one that signs') })
    await expect(without('nobody')).rejects.toMatchObject({ message: 'No signing key has the id nobody.' })
    expect(await me(t, await signIn(t))).toBe(200)
  })
})

describe('the running service', () => {
  test('accepts the first token signed with a key that another instance rotated to', async () => {
    const other = await makeApp({ databaseUrl: sandbox.databaseUrl })
    const t = await makeApp({ databaseUrl: sandbox.databaseUrl })
    const next = await newSigningKey(other.clock.now())
    await other.store.keys.changeSigningKeys(() => [next])
    other.clock.advance(1)
    const token = await signIn(other)
    expect(kidOf(token)).toBe(next.kid)
    expect(await me(t, token)).toBe(200)
    await Promise.all([other.store.close(), t.store.close()])
  })

  test('reads known keys from the store at most once a second', async () => {
    const t = await makeApp()
    const token = await signIn(t)
    let reads = 0
    const { signingKeys } = t.store.keys
    t.store.keys.signingKeys = () => {
      reads++
      return signingKeys()
    }
    for (let i = 0; i < 20; i++) await me(t, token)
    expect(reads).toBe(0)
    t.clock.advance(1)
    await Promise.all(Array.from({ length: 20 }, () => me(t, token)))
    expect(reads).toBe(1)
  })

  test('answers store_unavailable, not 401, when it cannot read the keys', async () => {
    const t = await makeApp({ databaseUrl: sandbox.databaseUrl })
    const token = await signIn(t)
    await execute(sandbox.databaseUrl, 'drop table signing_keys')
    expect(await me(t, token)).toBe(200)
    t.clock.advance(1)
    expect(await me(t, token)).toBe(503)
    await t.store.close()
  })
})

describe('npm run keys', { timeout: 60_000 }, () => {
  let t: TestApp
  beforeEach(async () => {
    t = await makeApp({ databaseUrl: sandbox.databaseUrl })
  })
  afterEach(() => t.store.close())

  async function command(...args: string[]) {
    const { code, out, err } = await outcomeOf(run, args, { DATABASE_URL: sandbox.databaseUrl })
    return { code, out: out.join('\n'), err: err.join('\n') }
  }
  const states = async () => {
    const shown = JSON.parse((await command('list', '--json')).out) as Array<{ kid: string; state: string }>
    return shown.map(({ state }) => state)
  }

  test('replaces a leaked key while the service runs: its tokens are refused within seconds', async () => {
    const leaked = await signIn(t)
    expect(await me(t, leaked)).toBe(200)
    const { code, stdout, stderr } = await sandbox.cli('keys', 'rotate', '--now', '--json')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const [only, ...others] = JSON.parse(stdout)
    expect(only).toMatchObject({ state: 'signing', publishedUntil: null })
    expect(others).toEqual([])
    t.clock.advance(2)
    expect(await me(t, leaked)).toBe(401)
    expect(await published(t)).toEqual([only.kid])
    const fresh = await signIn(t)
    expect(kidOf(fresh)).toBe(only.kid)
    expect(await me(t, fresh)).toBe(200)
  })

  test('accepts a kid that begins with a hyphen', async () => {
    const kid = '-'.padEnd(43, 'x')
    expect(await command('remove', kid)).toMatchObject({ code: 1, err: `No signing key has the id ${kid}.` })
  })

  test('rotates, lists and removes keys without showing a private key', async () => {
    const old = String(kidOf(await signIn(t)))
    expect(await command('list')).toMatchObject({ code: 0, err: '', out: expect.stringContaining(`${old}  signing`) })
    expect(await command('rotate')).toMatchObject({ code: 0, err: '' })
    expect(await states()).toEqual(['signing', 'next'])
    expect(await command('rotate')).toMatchObject({ code: 1, err: expect.stringContaining('A rotation is under way') })
    expect(await command('remove', old)).toMatchObject({ code: 1, err: expect.stringContaining('rotate --now') })
    const next = (await t.store.keys.signingKeys()).find(({ kid }) => kid !== old)
    expect(await command('remove', String(next?.kid))).toMatchObject({ code: 0, out: `Removed ${next?.kid}.` })
    expect(await states()).toEqual(['signing'])
    const secret = JSON.parse(String(next?.privateJwk)).d
    expect(JSON.stringify([await command('list', '--json'), await command('rotate', '--json')])).not.toContain(secret)
  })

  test.each([
    [2, [], /^The commands are list, rotate and remove/],
    [2, ['create'], /^The commands are/],
    [2, ['rotate', 'x'], /^rotate takes no kid/],
    [2, ['list', '--now'], /^list does not take --now/],
    [2, ['remove'], /^remove takes one kid/],
    [2, ['remove', 'x', '--json'], /^remove takes no options/],
    [2, ['rotate', '--later'], /^Unknown option '--later'/],
    [1, ['remove', 'x'], /^No signing key has the id x\.$/],
  ])('exits with %d for %j', async (code, args, line) => {
    expect(await command(...args)).toEqual({ code, out: '', err: expect.stringMatching(line) })
  })

  test('lists no keys before the service first started, and can rotate then', async () => {
    await t.store.keys.changeSigningKeys(() => [])
    expect((await command('list')).out).toMatch(/^There are no keys yet/)
    expect((await command('rotate')).code).toBe(0)
    expect(await states()).toEqual(['signing'])
  })
})
