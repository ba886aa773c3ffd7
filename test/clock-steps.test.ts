import { afterEach, describe, expect, test } from 'vitest'
import { newSigningKey } from '../src/auth/keys.ts'
import { rotate } from '../src/auth/rotation.ts'
import { agentToken, basic, GRANT, requestToken } from './agent-client.ts'
import { newDatabase } from './database.ts'
import { guest, refresh, refreshed } from './refreshing.ts'
import { callingScene, NOT_LIVE, refusal, UNKNOWN } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { makeApp, post, type TestApp, testClock } from './support.ts'

const MINUTE = 60
const DAY = 24 * 60 * MINUTE
const STEPS = [-1, 1, -MINUTE, MINUTE, -DAY, DAY]
type When = 'while it runs' | 'while it is stopped'

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

/** A call on a service whose machine's clock can be set, while the service runs and while it is stopped. */
async function steppable(env: Record<string, string> = {}) {
  const databaseUrl = await newDatabase({ lasts: true })
  const clock = testClock()
  const call = await callingScene({ env, databaseUrl, clock })
  const { s, agent, pair, user, leg } = call
  let t: TestApp = s
  cleanups.push(() => t.store.close())

  return {
    ...call,
    clock,
    app: () => t,
    /** Sets the clock; a service that is stopped is so for that long. */
    async step(seconds: number, when: When, stoppedFor = 0) {
      if (when === 'while it runs') return clock.step(seconds)
      await t.background.idle()
      await t.store.close()
      clock.step(seconds)
      clock.advance(stoppedFor)
      t = await makeApp({ env, databaseUrl, sfu: s.sfu, clock })
    },
    /** A callback by an agent whose token is new. */
    async report(headers: Record<string, string> = {}) {
      const bearer = await agentToken(t.app, agent)
      return post(t.app, '/agent/progress', { ...pair, data: {} }, bearer, headers)
    },
    me: () => t.app.request('/auth/me', { headers: { Authorization: `Bearer ${user.bearer}` } }),
    async leave() {
      s.sfu.leave(leg)
      expect((await postWebhook(t, webhookEvent('participant_left', leg))).status).toBe(200)
    },
    stored: () => t.store.sessions.find(pair.sessionId),
  }
}

type Steppable = Awaited<ReturnType<typeof steppable>>

interface Lived {
  what: string
  /** Seconds that it lives, by a clock that is never set. */
  life: number
  /** What becomes of it when the clock jumps ahead by more than is left of its life, while the service runs. */
  ahead: 'lives on' | 'ends early'
  /** Deleting late is right where deleting early would lose something. */
  mayLiveLonger?: true
  env?: Record<string, string>
  /** Creates one; the returned function says whether it is still valid. */
  begin: (call: Steppable) => Promise<() => Promise<boolean>>
}

const isOk = async (answer: Response | Promise<Response>) => (await answer).ok

const LIVED: Lived[] = [
  {
    what: 'a user’s access token',
    life: 15 * MINUTE,
    ahead: 'ends early',
    begin:
      async ({ me }) =>
      () =>
        isOk(me()),
  },
  {
    what: 'an agent’s access token',
    life: 15 * MINUTE,
    ahead: 'ends early',
    begin:
      async ({ app, agent, pair }) =>
      () =>
        isOk(post(app().app, '/agent/progress', { ...pair, data: {} }, agent.bearer)),
  },
  {
    what: 'an unused refresh token',
    life: 30 * DAY,
    ahead: 'ends early',
    begin:
      async ({ app, user }) =>
      () =>
        isOk(refresh(app(), user.refreshToken)),
  },
  {
    what: 'a sign-in that is refreshed',
    life: 15 * DAY,
    ahead: 'ends early',
    async begin({ app, clock, user }) {
      let token = user.refreshToken
      for (let i = 0; i < 3; i++) {
        clock.advance(25 * DAY)
        token = await refreshed(app(), token)
      }
      return () => isOk(refresh(app(), token))
    },
  },
  {
    what: 'the answer to a refresh that was lost',
    life: 10,
    ahead: 'ends early',
    async begin({ app, user }) {
      await refreshed(app(), user.refreshToken)
      return () => isOk(refresh(app(), user.refreshToken))
    },
  },
  {
    what: 'an agent’s old secret',
    life: 60 * MINUTE,
    ahead: 'ends early',
    async begin({ app, s, agent }) {
      await s.accounts.rekey(agent.id, 60 * MINUTE * 1000)
      return () => isOk(requestToken(app().app, GRANT, basic(agent.id, agent.secret)))
    },
  },
  {
    what: 'a retired signing key',
    life: 310 + 16 * MINUTE,
    ahead: 'ends early',
    async begin({ app }) {
      const { store, keys } = app()
      const { kid } = keys.current()
      const next = await newSigningKey(store.clock.latest())
      await store.keys.changeSigningKeys((all) => rotate(all, next, store.clock.latest()))
      return async () => {
        const { keys } = (await (await app().app.request('/.well-known/jwks.json')).json()) as { keys: unknown[] }
        return JSON.stringify(keys).includes(kid)
      }
    },
  },
  {
    what: 'the time to wrap up',
    life: MINUTE,
    ahead: 'ends early',
    env: { WRAP_UP_SECONDS: '60', RECONNECT_SECONDS: '3600' },
    async begin({ report, leave }) {
      await report()
      await leave()
      return () => isOk(report())
    },
  },
  {
    what: 'the time to reconnect',
    life: MINUTE,
    ahead: 'lives on',
    env: { RECONNECT_SECONDS: '60' },
    async begin({ app, report, leave, stored }) {
      await report()
      await leave()
      return async () => (await app().reconcile()) && (await stored())?.status !== 'ended'
    },
  },
  {
    what: 'the longest session',
    life: 10 * MINUTE,
    ahead: 'lives on',
    env: { MAX_SESSION_MINUTES: '10' },
    async begin({ app, report, stored }) {
      await report()
      return async () => (await app().reconcile()) && (await stored())?.status !== 'ended'
    },
  },
  {
    what: 'the longest session while LiveKit does not answer',
    life: 10 * MINUTE,
    ahead: 'lives on',
    env: { MAX_SESSION_MINUTES: '10' },
    async begin({ s, app, report, stored }) {
      await report()
      s.sfu.mode = 'error500'
      return async () => !(await app().reconcile()) && (await stored())?.status !== 'ended'
    },
  },
  {
    what: 'a session that nobody joins',
    life: 16 * MINUTE,
    ahead: 'lives on',
    async begin({ s, app, leg, stored }) {
      s.sfu.leave(leg)
      return async () => (await app().reconcile()) && (await stored())?.status === 'pending'
    },
  },
  {
    what: 'an Idempotency-Key',
    life: DAY,
    ahead: 'lives on',
    async begin({ app, report }) {
      const seqOf = async () => ((await (await report({ 'Idempotency-Key': 'one' })).json()) as { seq: number }).seq
      const seq = await seqOf()
      return async () => {
        await app().prune()
        return (await seqOf()) === seq
      }
    },
  },
  {
    what: 'an ended session’s history',
    life: 2 * DAY,
    ahead: 'lives on',
    mayLiveLonger: true,
    env: { EVENT_RETENTION_DAYS: '2' },
    async begin({ app, report, s, user, pair, stored }) {
      await report()
      await s.app.request(`/sessions/${pair.sessionId}`, {
        method: 'DELETE',
        headers: { Authorization: `Bearer ${user.bearer}` },
      })
      await app().background.idle()
      return async () => {
        await app().prune()
        return (await stored()) !== null
      }
    },
  },
]

/** How close to its expiry each is checked, in seconds; 5 s of leeway beyond it are allowed. */
const MARGIN = 2

describe.each(LIVED)('$what', ({ life, ahead, mayLiveLonger, env, begin }) => {
  /** Whether it is alive at that age, when the clock was set at half of its life. */
  async function aliveAt(age: number, step: number, when: When): Promise<boolean> {
    const call = await steppable(env)
    const isAlive = await begin(call)
    call.clock.advance(life / 2)
    await call.step(step, when)
    call.clock.advance(age - life / 2)
    return isAlive()
  }

  describe.each(['while it runs', 'while it is stopped'] as const)('when the clock is set %s', (when) => {
    test.each(mayLiveLonger ? [] : STEPS)('by %d s, is never accepted after its expiry', async (step) => {
      expect(await aliveAt(life + 6, step, when)).toBe(false)
    })

    test.each(STEPS)('by %d s, expires early only if the step was forward', async (step) => {
      // What passes while the service is stopped is known from the wall clock alone.
      const isShortened = step > MARGIN && (when === 'while it is stopped' || ahead === 'ends early')
      expect(await aliveAt(life - MARGIN, step, when)).toBe(!isShortened)
    })
  })
})

describe('after the clock ran ahead and was corrected', () => {
  /** The service is stopped for so many seconds, nine times. */
  async function stoppedFor(call: Steppable, seconds: number): Promise<void> {
    for (let i = 0; i < 9; i++) {
      await call.step(0, 'while it is stopped', seconds)
    }
  }

  test('the time that passes while the service is stopped counts towards token expiry', async () => {
    const call = await steppable()
    call.clock.step(DAY)
    const { access_token, refresh_token } = await guest(call.app())
    call.clock.step(-DAY)
    await stoppedFor(call, 60 * MINUTE)
    const headers = { Authorization: `Bearer ${access_token}` }
    expect((await call.app().app.request('/auth/me', { headers })).status).toBe(401)
    expect((await refresh(call.app(), refresh_token)).status).toBe(200)
    const next = await guest(call.app())
    await stoppedFor(call, 4 * DAY)
    expect((await refresh(call.app(), next.refresh_token)).status).toBe(401)
  })

  test('the time that passes while the service is stopped counts towards the wrap-up window', async () => {
    const call = await steppable({ WRAP_UP_SECONDS: '60', RECONNECT_SECONDS: '3600', MAX_SESSION_MINUTES: '10080' })
    await call.step(DAY, 'while it is stopped')
    call.clock.step(-DAY)
    await call.report()
    await call.leave()
    await stoppedFor(call, 20)
    expect((await call.report()).status).toBe(409)
  })
})

describe('a callback for a user whose leave LiveKit did not report', () => {
  /** At which ages, in seconds since the leaving, callbacks were accepted; looked at twice a second for two minutes. */
  async function acceptedAfter(call: Steppable, act: (age: number) => unknown = () => {}): Promise<number[]> {
    const accepted: number[] = []
    call.s.sfu.leave(call.leg)
    for (let age = 0; age < 120; age += 0.5) {
      await act(age)
      if ((await call.report()).status === 201) accepted.push(age)
      if (age % 20 === 10) await call.app().reconcile()
      call.clock.advance(0.5)
    }
    return accepted
  }

  describe.each(['while it runs', 'while it is stopped'] as const)('when the clock is set %s', (when) => {
    test.each(STEPS)('by %d s, is refused after LIVENESS_SECONDS at the latest', async (step) => {
      for (const mode of ['ok', 'error500'] as const) {
        const call = await steppable()
        expect((await call.report()).status).toBe(201)
        call.s.sfu.mode = mode
        const accepted = await acceptedAfter(call, (age) => (age === 5 ? call.step(step, when) : undefined))
        expect(accepted.filter((age) => age > 10)).toEqual([])
      }
    })
  })

  test('is refused at once after a step back of 30 s, when LiveKit answers', async () => {
    const call = await steppable()
    expect((await call.report()).status).toBe(201)
    call.clock.step(-30)
    expect(await acceptedAfter(call)).toEqual([])
  })

  test('is refused after LIVENESS_SECONDS=2 when the user was confirmed after a step back of 20 s', async () => {
    const call = await steppable({ LIVENESS_SECONDS: '2' })
    expect((await call.report()).status).toBe(201)
    call.clock.step(-20)
    expect((await call.report()).status).toBe(201)
    expect((await acceptedAfter(call)).at(-1)).toBe(2)
  })

  test('is refused after the clock ran a minute ahead for 3 s and was corrected', async () => {
    const call = await steppable()
    call.clock.step(60)
    expect((await call.report()).status).toBe(201)
    call.clock.advance(3)
    call.clock.step(-60)
    expect(await acceptedAfter(call)).toEqual([])
  })

  test('is refused after the machine slept longer than a confirmation lasts', async () => {
    const call = await steppable()
    expect((await call.report()).status).toBe(201)
    call.s.sfu.leave(call.leg)
    // The wall clock moved on while the monotonic clock stood still.
    call.clock.step(10.001)
    expect(await refusal(call.report())).toEqual(NOT_LIVE)
  })

  test('is refused after a restart: confirmations of an earlier process do not count', async () => {
    const call = await steppable()
    expect((await call.report()).status).toBe(201)
    call.s.sfu.mode = 'error500'
    expect((await call.report()).status).toBe(201)
    await call.step(0, 'while it is stopped')
    expect(await refusal(call.report())).toEqual(UNKNOWN)
  })
})

describe('a callback for a user who is in the room', () => {
  describe.each(['while it runs', 'while it is stopped'] as const)('when the clock is set %s', (when) => {
    test.each(STEPS)('by %d s, is still accepted', async (step) => {
      // A step ahead while the service is stopped looks like time that has passed.
      const call = await steppable({ MAX_SESSION_MINUTES: '10080' })
      expect((await call.report()).status).toBe(201)
      await call.step(step, when)
      for (let i = 0; i < 30; i++) {
        expect((await call.report()).status).toBe(201)
        call.clock.advance(1)
      }
    })
  })

  test('who just rejoined is accepted once the cached refusal is a second old, despite a step back', async () => {
    const call = await steppable()
    call.s.sfu.leave(call.leg)
    expect(await refusal(call.report())).toEqual(NOT_LIVE)
    call.clock.step(-60)
    call.s.sfu.join(call.joinToken)
    call.clock.advance(1)
    expect((await call.report()).status).toBe(201)
  })
})

describe('a webhook from a LiveKit server with the right clock', () => {
  const deliver = async (step: number) => {
    const call = await steppable()
    call.clock.step(step)
    const event = webhookEvent('participant_left', call.leg)
    return (await postWebhook(call.app(), event, call.clock.right())).status
  }

  test.each([-60, -1, 1, 60, 300])('is accepted by a service whose clock is %d s off', async (step) => {
    expect(await deliver(step)).toBe(200)
  })

  test.each([-62, 362, -DAY, DAY])('is refused by a service whose clock is %d s off', async (step) => {
    expect(await deliver(step)).toBe(401)
  })
})

test('unused sessions are superseded oldest first, despite a step back of the clock', async () => {
  const call = await steppable()
  const { s, user } = call
  for (let i = 0; i < 9; i++) await s.newSession(user)
  call.clock.step(-DAY)
  const newest = await s.newSession(user)
  await s.newSession(user)
  expect((await call.app().store.sessions.find(newest.pair.sessionId))?.status).toBe('pending')
})

test('each clock step is logged once, with its size', async () => {
  const call = await steppable()
  for (const step of [-30, 0.4, 86_400]) {
    call.clock.step(step)
    for (let i = 0; i < 3; i++) await call.me()
  }
  const logged = () =>
    call
      .app()
      .logged()
      .map(({ msg }) => String(msg))
      .filter((msg) => msg.includes('system clock'))
  expect(logged()).toEqual([
    expect.stringContaining('set back by 30 s'),
    expect.stringContaining('set ahead by 86400 s'),
  ])
  await call.step(-60, 'while it is stopped')
  await call.me()
  expect(logged()).toEqual([expect.stringContaining('set back by 60 s')])
})
