import { afterEach, describe, expect, test, vi } from 'vitest'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { SCOPES } from '../src/auth/scopes.ts'
import { loadConfig } from '../src/config.ts'
import { basic, GRANT, requestToken } from './agent-client.ts'
import { from, rateHeaders } from './from-address.ts'
import { callingScene, refusal } from './scene.ts'
import { makeApp } from './support.ts'

const LIMITED = { status: 429, code: 'rate_limited' }
const ADA = { email: 'ada@example.com', password: 'correct horse' }

afterEach(() => void vi.useRealTimers())

describe('rate limits', () => {
  const SIGN_INS = { SIGN_INS_PER_ADDRESS_PER_MINUTE: '2' }

  test('report the remaining requests and the time of the reset (A34)', async () => {
    const t = await makeApp({ env: SIGN_INS })
    const nobody = { email: 'nobody@example.com', password: 'x' }
    const first = await from(t, '192.0.2.1', '/auth/register', ADA)
    expect(first.status).toBe(201)
    expect(rateHeaders(first)).toEqual(['"sign-ins";q=2;w=60', expect.stringMatching(/^"sign-ins";r=1;t=(60|59)$/)])
    const second = await from(t, '192.0.2.1', '/auth/login', nobody)
    expect(rateHeaders(second)).toEqual([
      '"sign-ins";q=2;w=60, "failed-sign-ins-account";q=50;w=3600, "failed-sign-ins";q=10;w=900',
      expect.stringMatching(
        /^"sign-ins";r=0;t=\d+, "failed-sign-ins-account";r=49;t=\d+, "failed-sign-ins";r=9;t=\d+$/,
      ),
    ])
    const third = await from(t, '192.0.2.1', '/auth/login', nobody)
    expect(rateHeaders(third)).toEqual(['"sign-ins";q=2;w=60', expect.stringMatching(/^"sign-ins";r=0;t=\d+$/)])
    expect(Number(third.headers.get('Retry-After'))).toBeGreaterThan(50)
    expect(await refusal(third)).toEqual(LIMITED)
  })

  test('count the requests of an address, treat a /64 as one address, and do not affect others', async () => {
    const t = await makeApp({ env: SIGN_INS })
    expect((await from(t, '2001:db8::1', '/auth/login', ADA)).status).toBe(401)
    expect((await from(t, '2001:db8::2', '/auth/login', ADA)).status).toBe(401)
    expect(await refusal(from(t, '2001:db8:0:0:ffff::3', '/auth/login', ADA))).toEqual(LIMITED)
    expect((await from(t, '2001:db8:0:1::3', '/auth/login', ADA)).status).toBe(401)
    expect((await from(t, '192.0.2.1', '/auth/login', ADA)).status).toBe(401)
  })

  test.each([
    ['of another method', 405, { method: 'GET' }],
    ['that any web page can send, without a body', 415, { headers: { Origin: 'https://evil.example' } }],
    ['that any web page can send, as text', 415, { headers: { 'Content-Type': 'text/plain' }, body: '{}' }],
    ['that are not JSON', 400, { headers: { 'Content-Type': 'application/json' }, body: '{' }],
    ['that are too long', 413, { headers: { 'Content-Type': 'application/json' }, body: 'x'.repeat(70_000) }],
    ['with a wrong field', 422, { headers: { 'Content-Type': 'application/json' }, body: '{"name":1,"email":1}' }],
  ])('do not count requests %s', async (_, status, request) => {
    const t = await makeApp({ env: { ...SIGN_INS, REFRESHES_PER_ADDRESS_PER_MINUTE: '2' } })
    for (const path of ['/auth/login', '/auth/register', '/auth/refresh', '/auth/guest']) {
      const answer = await t.app.request(path, { method: 'POST', ...request })
      expect(answer.status, path).toBe(status)
      expect(rateHeaders(answer)).toEqual([null, null])
    }
    expect((await t.store.users.pruneGuests(Number.MAX_SAFE_INTEGER, 10)) > 0).toBe(false)
  })

  test('apply to refreshes per address, and a refused refresh does not consume its token', async () => {
    const t = await makeApp({ env: { REFRESHES_PER_ADDRESS_PER_MINUTE: '1' } })
    const signedIn = async (answer: Response) => SignedInResponse.parse(await answer.json())
    const { refresh_token } = await signedIn(await from(t, '192.0.2.1', '/auth/guest', {}))
    const next = await signedIn(await from(t, '192.0.2.1', '/auth/refresh', { refresh_token }))
    const body = { refresh_token: next.refresh_token }
    expect(await refusal(from(t, '192.0.2.1', '/auth/refresh', body))).toEqual(LIMITED)
    expect((await from(t, '192.0.2.2', '/auth/refresh', body)).status).toBe(200)
  })

  test('apply to join tokens and rooms per user, from any address', async () => {
    const { s, user, agent, room } = await callingScene({ env: { REQUESTS_PER_USER_PER_MINUTE: '3' } }, SCOPES)
    expect((await from(s, '192.0.2.1', '/token', {}, user.bearer)).status).toBe(201)
    expect((await from(s, '192.0.2.2', '/rooms', {}, user.bearer)).status).toBe(201)
    expect(await refusal(from(s, '192.0.2.3', '/token', {}, user.bearer))).toEqual(LIMITED)
    expect(await refusal(from(s, '192.0.2.4', '/rooms', {}, user.bearer))).toEqual(LIMITED)
    const other = await s.newUser()
    expect((await from(s, '192.0.2.1', '/token', {}, other.bearer)).status).toBe(201)
    expect((await from(s, '192.0.2.1', '/token', { room }, agent.bearer)).status).toBe(201)
    // Forged and unsigned tokens count towards no user.
    expect((await from(s, '192.0.2.1', '/token', {}, 'forged')).status).toBe(401)
  })

  test('apply to reads per user, each counted once', async () => {
    const { s, user, pair } = await callingScene({ env: { READS_PER_USER_PER_MINUTE: '5' } })
    const own = `/sessions/${pair.sessionId}`
    for (const [count, path] of ['/sessions', own, `${own}/events`, `${own}/audit`, '/auth/me'].entries()) {
      const answer = await s.get(path, user.bearer)
      expect(answer.status, path).toBe(200)
      expect(rateHeaders(answer)).toEqual(['"reads";q=5;w=60', expect.stringMatching(`^"reads";r=${4 - count};t=`)])
    }
    expect(await refusal(s.get(`${own}/events`, user.bearer))).toEqual(LIMITED)
    expect(await refusal(s.get('/auth/me', user.bearer))).toEqual(LIMITED)
    expect((await s.get('/auth/me', (await s.newUser()).bearer)).status).toBe(200)
    expect((await from(s, '192.0.2.1', '/token', {}, user.bearer)).status).toBe(201)
  })

  test('apply to an agent over all its routes, before LiveKit is asked', async () => {
    const { s, agent, pair, room, asked } = await callingScene({ env: { REQUESTS_PER_AGENT_PER_MINUTE: '3' } }, SCOPES)
    const first = await s.progress(agent.bearer, pair)
    expect(first.status).toBe(201)
    expect(rateHeaders(first)).toEqual(['"agent";q=3;w=60', expect.stringMatching(/^"agent";r=2;t=/)])
    expect((await from(s, '192.0.2.1', '/token', { room }, agent.bearer)).status).toBe(201)
    expect((await s.context(agent.bearer, pair)).status).toBe(200)
    s.clock.advance(60)
    const before = asked()
    expect(await refusal(s.progress(agent.bearer, pair))).toEqual(LIMITED)
    expect(await refusal(s.context(agent.bearer, pair))).toEqual(LIMITED)
    expect(await refusal(s.end(agent.bearer, pair))).toEqual(LIMITED)
    expect(asked()).toBe(before)
    const other = await s.newAgent('second')
    expect((await s.progress(other.bearer, pair)).status).toBe(201)
  })

  test('are off in development, except for guests', async () => {
    const t = await makeApp()
    const answer = await from(t, '192.0.2.1', '/auth/register', ADA)
    expect(rateHeaders(answer)).toEqual([null, null])
    const guest = await from(t, '192.0.2.1', '/auth/guest', {})
    expect(rateHeaders(guest)).toEqual(['"guests";q=60;w=3600', expect.stringMatching(/^"guests";r=59;t=3600$/)])
  })
})

describe('agent secrets', () => {
  test('that are wrong are limited per account and address, and the right one is still accepted', async () => {
    const { s, agent } = await callingScene()
    const ask = (id: string, secret: string) => requestToken(s.app, GRANT, basic(id, secret))
    for (let i = 0; i < 10; i++) expect((await ask(agent.id, 'wrong')).status).toBe(401)
    const eleventh = await ask(agent.id, 'wrong')
    expect(Number(eleventh.headers.get('Retry-After'))).toBeGreaterThan(800)
    expect(await refusal(eleventh)).toEqual(LIMITED)
    expect((await ask('another', 'wrong')).status).toBe(401)
    expect((await ask(agent.id, agent.secret)).status).toBe(200)
  })

  test('count towards the limit of the address when wrong or missing, and are accepted regardless when right', async () => {
    const { s, agent } = await callingScene({ env: { SIGN_INS_PER_ADDRESS_PER_MINUTE: '2' } })
    expect((await s.app.request('/agent/token')).status).toBe(405)
    expect((await requestToken(s.app, GRANT, basic('another', 'wrong'))).status).toBe(401)
    expect((await requestToken(s.app, GRANT)).status).toBe(401)
    expect(await refusal(requestToken(s.app, GRANT))).toEqual(LIMITED)
    expect(await refusal(requestToken(s.app, GRANT, basic(agent.id, 'wrong')))).toEqual(LIMITED)
    for (let i = 0; i < 5; i++) {
      expect((await requestToken(s.app, GRANT, basic(agent.id, agent.secret))).status).toBe(200)
    }
  })
})

test('production has every rate limit, development none, and 0 disables one', () => {
  const limitsOf = (env: Record<string, string>) => {
    const { config } = loadConfig(env)
    const { signInsPerAddressPerMinute, refreshesPerAddressPerMinute } = config
    const { requestsPerUserPerMinute, readsPerUserPerMinute, requestsPerAgentPerMinute } = config
    return [
      signInsPerAddressPerMinute,
      refreshesPerAddressPerMinute,
      requestsPerUserPerMinute,
      readsPerUserPerMinute,
      requestsPerAgentPerMinute,
      config.connectionsPerAddress,
    ]
  }
  const production = {
    NODE_ENV: 'production',
    PUBLIC_URL: 'https://api.example.com',
    LIVEKIT_URL: 'wss://livekit.example.com',
    LIVEKIT_API_KEY: 'APIkey',
    LIVEKIT_API_SECRET: 'a-livekit-secret-of-32-characters',
  }
  expect(limitsOf({})).toEqual([0, 0, 0, 0, 0, 0])
  expect(limitsOf(production)).toEqual([60, 600, 60, 600, 60_000, 256])
  const without = { REQUESTS_PER_AGENT_PER_MINUTE: '0', READS_PER_USER_PER_MINUTE: '0', CONNECTIONS_PER_ADDRESS: '0' }
  expect(limitsOf({ ...production, ...without })).toEqual([60, 600, 60, 0, 0, 0])
})
