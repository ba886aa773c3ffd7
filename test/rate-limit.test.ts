import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { attemptLimit } from '../src/auth/attempts.ts'
import { SignedInAnswer } from '../src/auth/schemas.ts'
import { loadConfig } from '../src/config.ts'
import { AppError } from '../src/errors.ts'
import { memoryCounters } from '../src/http/counters.ts'
import { basic, GRANT, requestToken } from './agent-client.ts'
import { callingScene, refusal } from './scene.ts'
import { makeApp, type TestApp } from './support.ts'

const LIMITED = { status: 429, code: 'rate_limited' }
const ADA = { email: 'ada@example.com', password: 'correct horse' }

afterEach(() => void vi.useRealTimers())

/** The library reads the real clock and waits by real timers. */
const fakeTime = () => vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'] })

/** POSTs JSON from an address. */
const from = ({ app }: Pick<TestApp, 'app'>, address: string, path: string, body: unknown, bearer?: string) =>
  app.request(
    path,
    {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) },
      body: JSON.stringify(body),
    },
    { incoming: { socket: { remoteAddress: address } } },
  )

const rateHeaders = ({ headers }: Response) => [headers.get('RateLimit-Policy'), headers.get('RateLimit')]

describe('a counter', () => {
  const QUOTA = { name: 'x', count: 2, windowSeconds: 60 }

  test('lets as many through as it says, and again in the next window', async () => {
    fakeTime()
    const counter = memoryCounters()(QUOTA)
    expect(await counter.count('a')).toEqual({ allowed: true, remaining: 1, resetSeconds: 60 })
    vi.advanceTimersByTime(10_000)
    expect(await counter.count('a')).toEqual({ allowed: true, remaining: 0, resetSeconds: 50 })
    expect(await counter.count('a')).toEqual({ allowed: false, remaining: 0, resetSeconds: 50 })
    expect((await counter.count('b')).allowed).toBe(true)
    vi.advanceTimersByTime(49_999)
    expect(await counter.count('a')).toMatchObject({ allowed: false, resetSeconds: 1 })
    vi.advanceTimersByTime(1)
    expect(await counter.count('a')).toEqual({ allowed: true, remaining: 1, resetSeconds: 60 })
  })

  test('gives one back, or all', async () => {
    const counter = memoryCounters()(QUOTA)
    for (let i = 0; i < 3; i++) await counter.count('a')
    await counter.giveBack('a')
    expect((await counter.count('a')).allowed).toBe(false)
    await counter.reset('a')
    expect(await counter.count('a')).toMatchObject({ allowed: true, remaining: 1 })
  })

  test('keeps no more of a long key than of a short one', async () => {
    const counter = memoryCounters()(QUOTA)
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < 10_000; i++) await counter.count(`${i} ${randomBytes(8_000).toString('latin1')}`)
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(50_000_000)
  })

  test('forgets a key when its window ends, and leaves no timer', async () => {
    fakeTime()
    const counter = memoryCounters()(QUOTA)
    for (let i = 0; i < 500; i++) await counter.count(`address ${i}`)
    expect(vi.getTimerCount()).toBe(1000)
    vi.advanceTimersByTime(60_000)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('tells no more keys apart than it may, and still counts the rest', async () => {
    fakeTime()
    const counter = memoryCounters(100, 16)(QUOTA)
    const outcomes = []
    for (let i = 0; i < 20_000; i++) outcomes.push(await counter.count(`address ${i}`))
    // A timer in the library and one of ours for each key: those told apart, and the shared ones.
    expect(vi.getTimerCount()).toBeLessThanOrEqual(2 * (100 + 16))
    expect(outcomes.slice(0, 100).every(({ allowed }) => allowed)).toBe(true)
    expect(outcomes.slice(-1000).some(({ allowed }) => allowed)).toBe(false)
    // Who was there first is still told apart.
    expect(await counter.count('address 7')).toMatchObject({ allowed: true, remaining: 0 })
    vi.advanceTimersByTime(60_000)
    expect(await counter.count('address 19999')).toMatchObject({ allowed: true, remaining: 1 })
  })
})

describe('guessing a password', () => {
  const WRONG = () => Promise.reject(new AppError('invalid_credentials', 'wrong'))
  const BUSY = () => Promise.reject(new AppError('busy', 'busy'))
  const RIGHT = () => Promise.resolve('in')

  function limited(counters = memoryCounters()) {
    const attempt = attemptLimit(counters, {
      perAddress: { name: 'pair', count: 3, windowSeconds: 900 },
      perAccount: { name: 'account', count: 5, windowSeconds: 3600 },
    })
    const code = (address: string, signIn: () => Promise<unknown>, account = ADA.email) =>
      attempt({ account, address, tell: () => {} }, signIn).then(
        () => 'in',
        (error: unknown) => (error instanceof AppError ? error.code : String(error)),
      )
    const times = async (n: number, address: string, signIn: () => Promise<unknown>) => {
      const codes = []
      for (let i = 0; i < n; i++) codes.push(await code(address, signIn))
      return codes
    }
    return { code, times }
  }

  test('ends after so many failures from one address, right or wrong, for that account alone', async () => {
    const { code, times } = limited()
    expect(new Set(await times(3, '192.0.2.1', WRONG))).toEqual(new Set(['invalid_credentials']))
    expect(await code('192.0.2.1', WRONG)).toBe('rate_limited')
    expect(await code('192.0.2.1', RIGHT)).toBe('rate_limited')
    expect(await code('192.0.2.1', RIGHT, 'bob@example.com')).toBe('in')
    expect(await code('192.0.2.2', RIGHT)).toBe('in')
  })

  test('many at once are no more than many in turn', async () => {
    const { code } = limited()
    const codes = await Promise.all(Array.from({ length: 20 }, () => code('192.0.2.1', WRONG)))
    expect(codes.filter((one) => one === 'invalid_credentials')).toHaveLength(3)
  })

  test('from many addresses ends as well, without locking out an owner where they signed in before', async () => {
    fakeTime()
    const { code, times } = limited()
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    const codes = []
    for (let i = 0; i < 20; i++) codes.push(await code(`198.51.100.${i}`, WRONG))
    expect(codes.filter((one) => one === 'invalid_credentials')).toHaveLength(5)
    expect(await code('203.0.113.1', RIGHT)).toBe('rate_limited')
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    // From there too one cannot guess for ever.
    expect(await times(4, '192.0.2.1', WRONG)).toContain('rate_limited')
    // And the rest is over within the hour.
    vi.advanceTimersByTime(3_600_000)
    expect(await code('203.0.113.1', RIGHT)).toBe('in')
  })

  test('by more addresses than can be told apart keeps no owner out where they signed in before', async () => {
    fakeTime()
    const { code } = limited(memoryCounters(50, 4))
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    vi.advanceTimersByTime(1_200_000)
    for (let i = 0; i < 1000; i++) await code(`198.51.${i >> 8}.${i & 255}`, WRONG, 'thrown@away.example')
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    // What the account's own limit refused has taken nobody's place.
    for (let i = 0; i < 40; i++) expect(await code('203.0.113.1', RIGHT, `somebody${i}@example.com`)).toBe('in')
    for (let i = 0; i < 200; i++) await code(`192.0.3.${i}`, WRONG, `thrown${i}@away.example`)
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
  })

  test('the owner’s own success forgives the address, not the others', async () => {
    const { code, times } = limited()
    await times(2, '192.0.2.1', WRONG)
    expect(await code('192.0.2.1', RIGHT)).toBe('in')
    expect(await times(3, '192.0.2.1', WRONG)).not.toContain('rate_limited')
    await times(3, '198.51.100.1', WRONG)
    // Two of before and three of now.
    expect(await code('198.51.100.2', WRONG)).toBe('rate_limited')
  })

  test('what says nothing about the password does not count', async () => {
    const { times } = limited()
    expect(new Set(await times(20, '192.0.2.1', BUSY))).toEqual(new Set(['busy']))
    expect(await times(20, '192.0.2.1', RIGHT)).not.toContain('rate_limited')
  })

  test('is answered alike for an account that does not exist', async () => {
    const t = await makeApp()
    await from(t, '192.0.2.9', '/auth/register', ADA)
    const answers = async (email: string) => {
      const seen = []
      for (let i = 0; i < 12; i++) {
        const answer = await from(t, '192.0.2.1', '/auth/login', { email, password: 'wrong horse' })
        seen.push([answer.status, ...rateHeaders(answer).map((value) => value?.replace(/;t=\d+/g, ''))])
      }
      return seen
    }
    const known = await answers(ADA.email)
    expect(known.map(([status]) => status)).toEqual([...Array(10).fill(401), 429, 429])
    expect(await answers('nobody@example.com')).toEqual(known)
    // Whatever the case of the letters.
    const again = from(t, '192.0.2.1', '/auth/login', { ...ADA, email: 'ADA@example.com' })
    expect(await refusal(again)).toEqual(LIMITED)
    expect((await from(t, '192.0.2.2', '/auth/login', ADA)).status).toBe(200)
  }, 30_000)
})

describe('requests', () => {
  const SIGN_INS = { SIGN_INS_PER_ADDRESS_PER_MINUTE: '2' }

  test('say what is left and when it comes back (A34)', async () => {
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

  test('of one address are counted whatever they hold, of a /64 as one, and never those of others', async () => {
    const t = await makeApp({ env: SIGN_INS })
    expect((await from(t, '2001:db8::1', '/auth/register', {})).status).toBe(422)
    expect((await from(t, '2001:db8::2', '/auth/register', 'x'.repeat(100_000))).status).toBe(413)
    expect(await refusal(from(t, '2001:db8:0:0:ffff::3', '/auth/login', ADA))).toEqual(LIMITED)
    expect((await from(t, '2001:db8:0:1::3', '/auth/login', ADA)).status).toBe(401)
    expect((await from(t, '192.0.2.1', '/auth/login', ADA)).status).toBe(401)
  })

  test('to refresh are limited per address, and a refused one uses up no token', async () => {
    const t = await makeApp({ env: { REFRESHES_PER_ADDRESS_PER_MINUTE: '1' } })
    const signedIn = async (answer: Response) => SignedInAnswer.parse(await answer.json())
    const { refresh_token } = await signedIn(await from(t, '192.0.2.1', '/auth/guest', {}))
    const next = await signedIn(await from(t, '192.0.2.1', '/auth/refresh', { refresh_token }))
    const body = { refresh_token: next.refresh_token }
    expect(await refusal(from(t, '192.0.2.1', '/auth/refresh', body))).toEqual(LIMITED)
    expect((await from(t, '192.0.2.2', '/auth/refresh', body)).status).toBe(200)
  })

  test('for join tokens and rooms are limited per user, wherever they come from', async () => {
    const { s, user, agent, room } = await callingScene({ env: { REQUESTS_PER_USER_PER_MINUTE: '3' } })
    expect((await from(s, '192.0.2.1', '/token', {}, user.bearer)).status).toBe(201)
    expect((await from(s, '192.0.2.2', '/rooms', {}, user.bearer)).status).toBe(201)
    expect(await refusal(from(s, '192.0.2.3', '/token', {}, user.bearer))).toEqual(LIMITED)
    expect(await refusal(from(s, '192.0.2.4', '/rooms', {}, user.bearer))).toEqual(LIMITED)
    const other = await s.newUser()
    expect((await from(s, '192.0.2.1', '/token', {}, other.bearer)).status).toBe(201)
    expect((await from(s, '192.0.2.1', '/token', { room }, agent.bearer)).status).toBe(201)
    // The forged and the unsigned count for nobody.
    expect((await from(s, '192.0.2.1', '/token', {}, 'forged')).status).toBe(401)
  })

  test('of one agent are limited over all its routes, and LiveKit is not asked for the rest', async () => {
    const { s, agent, pair, room, asked } = await callingScene({ env: { REQUESTS_PER_AGENT_PER_MINUTE: '3' } })
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

  test('are not limited in development, but for guests', async () => {
    const t = await makeApp()
    const answer = await from(t, '192.0.2.1', '/auth/register', ADA)
    expect(rateHeaders(answer)).toEqual([null, null])
    const guest = await from(t, '192.0.2.1', '/auth/guest', {})
    expect(rateHeaders(guest)).toEqual(['"guests";q=60;w=3600', expect.stringMatching(/^"guests";r=59;t=3600$/)])
  })
})

describe('agents’ secrets', () => {
  test('that are wrong are limited per account and address, and a right one is taken all the same', async () => {
    const { s, agent } = await callingScene()
    const ask = (id: string, secret: string) => requestToken(s.app, GRANT, basic(id, secret))
    for (let i = 0; i < 10; i++) expect((await ask(agent.id, 'wrong')).status).toBe(401)
    const eleventh = await ask(agent.id, 'wrong')
    expect(Number(eleventh.headers.get('Retry-After'))).toBeGreaterThan(800)
    expect(await refusal(eleventh)).toEqual(LIMITED)
    expect((await ask('another', 'wrong')).status).toBe(401)
    expect((await ask(agent.id, agent.secret)).status).toBe(200)
  })

  test('are limited per address altogether where sign-ins are', async () => {
    const { s, agent } = await callingScene({ env: { SIGN_INS_PER_ADDRESS_PER_MINUTE: '2' } })
    const ask = () => requestToken(s.app, GRANT, basic(agent.id, agent.secret))
    expect((await ask()).status).toBe(200)
    expect(await refusal(ask())).toEqual(LIMITED)
  })
})

test('production has every limit, development none; 0 takes one away', () => {
  const limitsOf = (env: Record<string, string>) => {
    const { config } = loadConfig(env)
    const { signInsPerAddressPerMinute, refreshesPerAddressPerMinute } = config
    const { requestsPerUserPerMinute, requestsPerAgentPerMinute } = config
    return [
      signInsPerAddressPerMinute,
      refreshesPerAddressPerMinute,
      requestsPerUserPerMinute,
      requestsPerAgentPerMinute,
    ]
  }
  const production = {
    NODE_ENV: 'production',
    PUBLIC_URL: 'https://api.example.com',
    LIVEKIT_URL: 'wss://livekit.example.com',
    LIVEKIT_API_KEY: 'APIkey',
    LIVEKIT_API_SECRET: 's'.repeat(32),
  }
  expect(limitsOf({})).toEqual([0, 0, 0, 0])
  expect(limitsOf(production)).toEqual([60, 600, 60, 60_000])
  expect(limitsOf({ ...production, REQUESTS_PER_AGENT_PER_MINUTE: '0' })).toEqual([60, 600, 60, 0])
})
