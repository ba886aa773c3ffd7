import { describe, expect, test } from 'vitest'
import { ProblemError, type RefreshTokenStorage, userClient } from '#client'
import { memoryStorage } from '../packages/client/src/sign-in.ts'
import { failure, faultyFetch, lost, quickClock, unreachable } from './faulty-fetch.ts'
import { makeApp, post, type TestAppOptions } from './support.ts'

const url = 'http://behalf.test'
const CREDENTIALS = { email: 'ada@example.com', password: 'correct horse' }
const ADA = { ...CREDENTIALS, name: 'Ada' }
const ACCESS_SECONDS = 15 * 60
const REFRESH = '/auth/refresh'

/** The app, a network to it, and a client whose refresh token can be looked at. */
async function frontend(options?: TestAppOptions) {
  const t = await makeApp(options)
  const network = faultyFetch(t.app)
  const { clock, waits } = quickClock(t.clock)
  const storage = memoryStorage()
  const newClient = (from: RefreshTokenStorage = storage, now = clock.now) =>
    userClient({ url, fetch: network.fetch, storage: from, clock: { ...clock, now } })
  return { t, network, waits, storage, newClient, client: newClient() }
}

describe('signing in with the client', () => {
  test('works as a guest, who registers and then signs out', async () => {
    const { client, storage, t } = await frontend()
    const guest = await client.guest({ name: 'Gwen' })
    expect(await client.me()).toEqual({ id: guest.id, name: 'Gwen', guest: true })
    expect(await client.register(ADA)).toMatchObject({ id: guest.id, email: ADA.email })
    expect(await client.me()).toMatchObject({ id: guest.id, guest: false })

    const refresh_token = await storage.get()
    await client.logout()
    expect(await storage.get()).toBeNull()
    expect(await failure(client.me())).toMatchObject({ code: 'not_signed_in' })
    expect((await post(t.app, REFRESH, { refresh_token })).status).toBe(401)
  })

  test('registers and logs in when no user was signed in before', async () => {
    const { client, newClient } = await frontend()
    const ada = await client.register(ADA)
    const elsewhere = newClient(memoryStorage())
    expect(await elsewhere.login(CREDENTIALS)).toEqual(ada)
    expect(await elsewhere.me()).toEqual({ ...ada, guest: false })
  })

  test.each(['register', 'login', 'guest'] as const)(
    '%s succeeds when storage holds a dead refresh token',
    async (way) => {
      const { client, newClient, storage, t } = await frontend()
      await newClient(memoryStorage()).register(ADA)
      await client.guest()
      await post(t.app, '/auth/logout', { refresh_token: await storage.get() })
      const [dead, bob] = [await storage.get(), { ...ADA, email: 'bob@example.com' }]
      // In this visit, whose access token has ended as well, and in the next one.
      for (const visit of [client, newClient()]) {
        await storage.set(dead)
        const user = await (way === 'register'
          ? visit.register(bob)
          : way === 'login'
            ? visit.login(CREDENTIALS)
            : visit.guest())
        expect(await visit.me()).toMatchObject({ id: user.id })
        bob.email = 'bob2@example.com'
      }
    },
  )

  test('changes the password, keeping only this sign-in', async () => {
    const { client, newClient } = await frontend()
    await client.register(ADA)
    const [elsewhere, later] = [newClient(memoryStorage()), newClient(memoryStorage())]
    await elsewhere.login(CREDENTIALS)
    const change = { current_password: ADA.password, new_password: 'battery staple' }
    expect(await client.changePassword(change)).toMatchObject({ email: ADA.email })
    expect(await client.me()).toMatchObject({ email: ADA.email })
    expect(await failure(elsewhere.me())).toMatchObject({ code: 'invalid_refresh_token' })
    expect(await failure(client.changePassword(change))).toMatchObject({ code: 'invalid_credentials' })
    expect(await later.login({ ...CREDENTIALS, password: change.new_password })).toMatchObject({ email: ADA.email })
  })

  test('signs out on every device', async () => {
    const { client, newClient, storage } = await frontend()
    await client.register(ADA)
    const elsewhere = newClient(memoryStorage())
    await elsewhere.login(CREDENTIALS)
    await client.logoutEverywhere()
    expect(await storage.get()).toBeNull()
    expect(await failure(client.me())).toMatchObject({ code: 'not_signed_in' })
    expect(await failure(elsewhere.me())).toMatchObject({ code: 'invalid_refresh_token' })
  })

  test('resumes the sign-in of an earlier visit', async () => {
    const { client, newClient } = await frontend()
    const { id } = await client.guest()
    expect(await newClient().me()).toMatchObject({ id })
  })

  test('is forgotten locally even if the service cannot be reached to log out', async () => {
    const { client, network, storage } = await frontend()
    await client.guest()
    network.plan('/auth/logout', unreachable)
    expect(await failure(client.logout())).toMatchObject({ code: 'unreachable' })
    expect(await storage.get()).toBeNull()
  })
})

describe('the client’s access token', () => {
  test('is renewed shortly before it expires', async () => {
    const { client, network, t } = await frontend()
    await client.guest()
    t.clock.advance(ACCESS_SECONDS - 61)
    await client.me()
    expect(network.sentTo(REFRESH)).toHaveLength(0)
    t.clock.advance(2)
    await client.me()
    expect(network.sentTo(REFRESH)).toHaveLength(1)
    expect(network.sentTo('/auth/me')).toHaveLength(2)
  })

  test('is renewed once for any number of simultaneous calls', async () => {
    const { client, network, t } = await frontend()
    await client.guest()
    t.clock.advance(ACCESS_SECONDS)
    const answers = await Promise.all(Array.from({ length: 20 }, () => client.me()))
    expect(new Set(answers.map(({ id }) => id)).size).toBe(1)
    expect(network.sentTo(REFRESH)).toHaveLength(1)
  })

  test('is renewed once when the service refuses it, whatever the local clock says', async () => {
    const { newClient, network, t } = await frontend()
    const start = t.clock.now()
    const client = newClient(memoryStorage(), () => start)
    await client.guest()
    t.clock.advance(ACCESS_SECONDS + 60)
    await Promise.all(Array.from({ length: 5 }, () => client.me()))
    expect(network.sentTo(REFRESH)).toHaveLength(1)
    expect(network.sentTo('/auth/me')).toHaveLength(10)
  })

  test('is requested again with the same refresh token after a lost answer', async () => {
    const { client, network, t, waits } = await frontend()
    await client.guest()
    t.clock.advance(ACCESS_SECONDS)
    network.plan(REFRESH, lost, lost)
    await client.me()
    const [first, second, third] = network.sentTo(REFRESH).map(({ body }) => body)
    expect([second, third]).toEqual([first, first])
    expect(waits.reduce((sum, ms) => sum + ms)).toBeLessThan(10_000)
    t.clock.advance(ACCESS_SECONDS)
    await client.me()
  })

  test('survives an outage of the service: the user stays signed in', async () => {
    const { client, network, t, waits } = await frontend()
    const { id } = await client.guest()
    t.clock.advance(ACCESS_SECONDS)
    network.plan(REFRESH, ...Array.from({ length: 30 }, () => unreachable))
    expect(await failure(client.me())).toMatchObject({ code: 'unreachable', status: 0 })
    expect(waits.reduce((sum, ms) => sum + ms)).toBeLessThanOrEqual(8_000)
    network.heal()
    expect(await client.me()).toMatchObject({ id })
  })

  test('is dropped and the user signed out when the refresh token is refused', async () => {
    const { client, network, storage, t } = await frontend()
    await client.guest()
    await post(t.app, '/auth/logout', { refresh_token: await storage.get() })
    t.clock.advance(ACCESS_SECONDS)
    const errors = await Promise.all([failure(client.me()), failure(client.sessions.list())])
    expect(errors).toEqual([expect.any(ProblemError), expect.any(ProblemError)])
    expect(errors).toMatchObject([{ code: 'invalid_refresh_token', status: 401 }, { code: 'invalid_refresh_token' }])
    expect(await storage.get()).toBeNull()
    expect(await failure(client.me())).toMatchObject({ code: 'not_signed_in' })
    expect(network.sentTo(REFRESH)).toHaveLength(1)
  })

  test('is taken over from another tab that signed in in the meantime', async () => {
    const { client, newClient, network, storage, t } = await frontend()
    await client.guest()
    const old = await storage.get()
    t.clock.advance(ACCESS_SECONDS)
    let ada: unknown
    network.plan(REFRESH, async (reach) => {
      await post(t.app, '/auth/logout', { refresh_token: old })
      const another = memoryStorage()
      ada = await newClient(another).register(ADA)
      await storage.set(await another.get())
      return reach()
    })
    expect(await client.me()).toEqual({ ...(ada as object), guest: false })
  })

  test('is not restored for a user who signed out in the meantime', async () => {
    const { client, network, storage, t } = await frontend()
    await client.guest()
    t.clock.advance(ACCESS_SECONDS)
    network.plan(REFRESH, async (reach) => {
      const answer = await reach()
      await client.logout()
      return answer
    })
    expect(await failure(client.me())).toMatchObject({ code: 'not_signed_in' })
    expect(await storage.get()).toBeNull()
    expect(await failure(client.accessToken())).toMatchObject({ code: 'not_signed_in' })
  })

  test('is still renewed for other calls when one of them is aborted', async () => {
    const { client, network, t } = await frontend()
    await client.guest()
    t.clock.advance(ACCESS_SECONDS)
    const stop = new AbortController()
    network.plan(REFRESH, (reach) => {
      stop.abort(new Error('left the page'))
      return reach()
    })
    const aborted = failure(client.me({ signal: stop.signal }))
    await expect(client.me()).resolves.toMatchObject({ guest: true })
    expect(await aborted).toMatchObject({ message: 'left the page' })
    expect(network.sentTo(REFRESH)).toHaveLength(1)
  })
})

describe('a problem answer', () => {
  test('names the fields and the request', async () => {
    const { client } = await frontend()
    const problem = await failure(client.register({ email: 'ada', password: 'correct horse' }))
    expect(problem).toBeInstanceOf(ProblemError)
    expect(problem).toMatchObject({
      code: 'validation_failed',
      status: 422,
      errors: [{ field: 'email' }],
      requestId: expect.stringMatching(/./),
    })
  })

  test('carries Retry-After', async () => {
    const { client } = await frontend({ env: { GUESTS_PER_ADDRESS_PER_HOUR: '1' } })
    await client.guest()
    const problem = await failure(client.guest())
    expect(problem).toMatchObject({ code: 'rate_limited', retryAfterSeconds: expect.closeTo(3600, -2) })
  })

  test.each([
    ['an error page of a proxy', new Response('<h1>Bad Gateway</h1>', { status: 502 }), 502],
    ['the sign-in page of a hotel', new Response('<h1>Hello</h1>', { headers: { 'Content-Type': 'text/html' } }), 200],
  ])('is also made from %s', async (_, page, status) => {
    const { client, network } = await frontend()
    network.plan('/auth/guest', () => page)
    expect(await failure(client.guest())).toMatchObject({ code: 'unexpected_answer', status })
  })

  test('is not what an aborted call rejects with', async () => {
    const { client } = await frontend()
    await client.guest()
    const reason = new Error('never mind')
    expect(await failure(client.me({ signal: AbortSignal.abort(reason) }))).toBe(reason)
  })
})

describe('the client’s sessions', () => {
  test('are listed, read and ended', async () => {
    const { client, t } = await frontend()
    await client.guest()
    const first = await client.joinToken()
    t.clock.advance(1)
    const second = await client.joinToken({ name: 'Ada' })
    const page = await client.sessions.list({ limit: 1 })
    expect(page.sessions.map(({ id }) => id)).toEqual([second.session_id])
    const rest = await client.sessions.list(page.before ? { before: page.before } : {})
    expect(rest.sessions.map(({ id }) => id)).toEqual([first.session_id])
    const id = String(first.session_id)
    expect(await client.sessions.get(id)).toMatchObject({ id, status: 'pending' })
    expect(await client.sessions.end(id)).toMatchObject({ id, status: 'ended', endReason: 'user' })
    expect(await failure(client.joinToken({ session_id: id }))).toMatchObject({ code: 'session_ended' })
  })

  test('are opened, read and ended on a connection that breaks', async () => {
    const { client, network, waits } = await frontend()
    await client.guest()
    network.plan('/token', lost)
    const { session_id = '' } = await client.joinToken()
    network.plan(`/sessions/${session_id}`, unreachable, lost)
    expect(await client.sessions.get(session_id)).toMatchObject({ status: 'pending' })
    network.plan(`/sessions/${session_id}`, lost)
    expect(await client.sessions.end(session_id)).toMatchObject({ status: 'ended' })
    expect(waits).toHaveLength(4)
    network.plan('/auth/me', ...Array.from({ length: 30 }, () => unreachable))
    expect(await failure(client.me())).toMatchObject({ code: 'unreachable' })
    expect(waits.slice(4).reduce((sum, ms) => sum + ms)).toBeLessThanOrEqual(2_000)
  })

  test('have ids that cannot change the request’s path', async () => {
    const { client, network } = await frontend()
    await client.guest()
    expect(await failure(client.sessions.get('../auth/me'))).toMatchObject({ code: 'session_not_found' })
    expect(network.sent.at(-1)?.path).toBe('/sessions/..%2Fauth%2Fme')
  })
})
