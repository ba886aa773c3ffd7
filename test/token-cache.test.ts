import { afterEach, describe, expect, test, vi } from 'vitest'
import { newSigningKey } from '../src/auth/keys.ts'
import { createTokenCache } from '../src/auth/token-cache.ts'
import { createAccessTokens } from '../src/auth/tokens.ts'
import { agentClaims, sign, userClaims } from './forged.ts'
import { callingScene, refusal } from './scene.ts'
import { post } from './support.ts'

const MINUTE = 60
const DAY = 24 * 60 * MINUTE
const INVALID = { status: 401, code: 'invalid_token' }

afterEach(() => {
  vi.restoreAllMocks()
})

/** A user and an agent whose tokens were accepted before, and the ways to use each. */
async function accepted() {
  const call = await callingScene()
  const { s, user, agent, pair } = call
  const uses = {
    user: (token = user.bearer) => s.get('/auth/me', token),
    agent: (token = agent.bearer) => s.context(token, pair),
  }
  for (const use of Object.values(uses)) expect((await use()).status).toBe(200)
  return { ...call, uses, verified: vi.spyOn(crypto.subtle, 'verify') }
}

type Accepted = Awaited<ReturnType<typeof accepted>>
const KINDS = ['user', 'agent'] as const

test('an access token that this process issued is accepted without verifying its signature', async () => {
  const verified = vi.spyOn(crypto.subtle, 'verify')
  const { s, user, agent, pair } = await callingScene()
  expect((await s.get('/auth/me', user.bearer)).status).toBe(200)
  expect((await s.context(agent.bearer, pair)).status).toBe(200)
  expect(verified).not.toHaveBeenCalled()
})

describe.each(KINDS)('an access token of the kind %s that was accepted before', (kind) => {
  const claimsOf = ({ s, user, agent }: Accepted) => (kind === 'user' ? userClaims(s, user) : agentClaims(s, agent.id))

  test('is accepted again without another verification', async () => {
    const { uses, verified } = await accepted()
    for (let i = 0; i < 3; i++) expect((await uses[kind]()).status).toBe(200)
    expect(verified).not.toHaveBeenCalled()
  })

  test('expires after 15 minutes and 5 seconds', async () => {
    const { s, uses } = await accepted()
    s.clock.advance(15 * MINUTE + 4)
    expect((await uses[kind]()).status).not.toBe(401)
    s.clock.advance(1)
    expect(await refusal(uses[kind]())).toEqual(INVALID)
  })

  test('expires when the clock is set ahead, and is not revived when it is set back', async () => {
    const { s, uses } = await accepted()
    s.clock.step(16 * MINUTE)
    expect(await refusal(uses[kind]())).toEqual(INVALID)
    s.clock.step(-16 * MINUTE)
    expect(await refusal(uses[kind]())).toEqual(INVALID)
  })

  test('expires on time when the clock was set back', async () => {
    const { s, uses } = await accepted()
    s.clock.step(-DAY)
    expect((await uses[kind]()).status).toBe(200)
    s.clock.advance(15 * MINUTE + 6)
    expect(await refusal(uses[kind]())).toEqual(INVALID)
  })

  test('expires by its exp when a clock that was set back is corrected', async () => {
    const call = await accepted()
    const { s, uses } = call
    s.clock.step(-DAY)
    const token = await sign(s, { ...claimsOf(call), steady_iat: s.store.clock.latest() })
    expect((await uses[kind](token)).status).toBe(200)
    s.clock.step(DAY)
    expect(await refusal(uses[kind](token))).toEqual(INVALID)
  })

  test('is refused while the clock is before its nbf', async () => {
    const call = await accepted()
    const { s, uses } = call
    const token = await sign(s, { ...claimsOf(call), nbf: Math.floor(s.clock.now() / 1000) })
    expect((await uses[kind](token)).status).toBe(200)
    s.clock.step(-MINUTE)
    expect(await refusal(uses[kind](token))).toEqual(INVALID)
  })

  test('is refused once its key is removed', async () => {
    const { s, uses } = await accepted()
    const next = await newSigningKey(s.clock.now())
    await s.store.keys.changeSigningKeys(() => [next])
    s.clock.advance(1)
    expect(await refusal(uses[kind]())).toEqual(INVALID)
  })

  test('is refused once its key is no longer published', async () => {
    const { s, uses } = await accepted()
    const next = await newSigningKey(s.clock.now())
    const expiresAt = s.clock.now() + MINUTE * 1000
    await s.store.keys.changeSigningKeys((keys) => [...keys.map((key) => ({ ...key, expiresAt })), next])
    s.clock.advance(MINUTE - 1)
    expect((await uses[kind]()).status).toBe(200)
    s.clock.advance(1)
    expect(await refusal(uses[kind]())).toEqual(INVALID)
  })

  test('is refused where only the other kind is accepted, even if its claims fit both', async () => {
    const call = await accepted()
    const { s, user, agent, uses } = call
    const other = kind === 'user' ? uses.agent : uses.user
    expect(await refusal(other(kind === 'user' ? user.bearer : agent.bearer))).toEqual(INVALID)
    expect((await uses[kind]()).status).toBe(200)

    const { keys, store, config } = s
    const tokens = createAccessTokens({ keys, users: store.users, publicUrl: config.publicUrl, clock: store.clock })
    const fitsBoth = { ...agentClaims(s, user.id), sid: userClaims(s, user).sid, aud: claimsOf(call).aud }
    const token = await sign(s, fitsBoth)
    const verify = { user: () => tokens.verifyUserToken(token), agent: () => tokens.verifyAgentToken(token) }
    await expect(verify[kind]()).resolves.toBeDefined()
    await expect(verify[kind === 'user' ? 'agent' : 'user']()).rejects.toMatchObject({ code: 'invalid_token' })
    await expect(verify[kind]()).resolves.toBeDefined()
  })

  test('does not vouch for one that differs in a single bit', async () => {
    const { user, agent, uses, verified } = await accepted()
    const [head = '', payload = '', signature = ''] = (kind === 'user' ? user.bearer : agent.bearer).split('.')
    const flipped = (text: string, at: number, bit: number) => {
      const bytes = Buffer.from(text, 'base64url')
      bytes[at] = (bytes[at] ?? 0) ^ bit
      return bytes.toString('base64url')
    }
    const forged = [
      ...[0, 31, 32, 63].map((at) => `${head}.${payload}.${flipped(signature, at, 1)}`),
      `${head}.${flipped(payload, 20, 1)}.${signature}`,
      `${head}.${payload}.${signature.slice(0, -1)}`,
      `${head}.${payload}.${signature}A`,
    ]
    for (const token of forged) expect(await refusal(uses[kind](token))).toEqual(INVALID)
    // The last character holds four bits that belong to no byte: the same signature, spelled differently.
    const last = 'AQgw'.indexOf(signature.at(-1) ?? '')
    const before = verified.mock.calls.length
    await uses[kind](`${head}.${payload}.${signature.slice(0, -1)}${'BRhx'[last]}`)
    expect(verified.mock.calls.length).toBe(before + 1)
    expect((await uses[kind]()).status).toBe(200)
    expect(verified.mock.calls.length).toBe(before + 1)
  })

  test('was verified once if it came many times at once', async () => {
    const call = await accepted()
    const token = await sign(call.s, claimsOf(call))
    const answers = await Promise.all(Array.from({ length: 20 }, () => call.uses[kind](token)))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    expect(call.verified).toHaveBeenCalledTimes(1)
  })

  test('is the only kind remembered: a refused one is verified each time', async () => {
    const call = await accepted()
    const signed = await sign(call.s, claimsOf(call))
    const foreign = `${signed.slice(0, signed.lastIndexOf('.'))}.${'A'.repeat(86)}`
    for (let i = 0; i < 3; i++) expect(await refusal(call.uses[kind](foreign))).toEqual(INVALID)
    expect(call.verified).toHaveBeenCalledTimes(3)
  })
})

describe('a user’s token that was accepted before', () => {
  test('is refused once the user signed out', async () => {
    const { s, user, uses } = await accepted()
    expect((await post(s.app, '/auth/logout', { refresh_token: user.refreshToken })).status).toBe(204)
    expect(await refusal(uses.user())).toEqual(INVALID)
  })
})

describe('an agent’s token that was accepted before', () => {
  test('is refused once the account is disabled, also after it is enabled again', async () => {
    const { s, agent, uses } = await accepted()
    await s.accounts.disable(agent.id)
    expect(await refusal(uses.agent())).toEqual({ status: 403, code: 'agent_disabled' })
    await s.accounts.enable(agent.id)
    expect(await refusal(uses.agent())).toEqual(INVALID)
  })

  test('is refused once the secret is replaced', async () => {
    const { s, agent, uses } = await accepted()
    await s.accounts.rekey(agent.id)
    expect(await refusal(uses.agent())).toEqual(INVALID)
  })

  test('is refused where the account lost the scope', async () => {
    const { s, agent, uses } = await accepted()
    await s.accounts.set(agent.id, { scopes: ['progress:write'] })
    expect(await refusal(uses.agent())).toEqual({ status: 403, code: 'insufficient_scope' })
  })
})

describe('the cache of verified tokens', () => {
  test('holds 8,192 tokens at most, the latest ones', () => {
    const cache = createTokenCache<object>()
    const names = Array.from({ length: 20_000 }, (_, i) => `token ${i}`)
    for (const name of names) cache.set(name, {})
    const held = names.filter((name) => cache.get(name))
    expect(held.length).toBeLessThanOrEqual(8192)
    expect(held.length).toBeGreaterThanOrEqual(4096)
    expect(held.at(-1)).toBe('token 19999')
  })

  test('keeps a token that is in use, however many others come', () => {
    const cache = createTokenCache<object>()
    const value = {}
    cache.set('in use', value)
    for (let i = 0; i < 50_000; i++) {
      cache.set(`token ${i}`, {})
      if (i % 1000 === 0) expect(cache.get('in use')).toBe(value)
    }
  })
})
