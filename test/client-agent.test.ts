import { z } from '@hono/zod-openapi'
import { HTTPException } from 'hono/http-exception'
import { describe, expect, test } from 'vitest'
import { type AgentClientOptions, agentClient } from '#client'
import { Pair } from '../src/agent/agent-route.ts'
import { takeViolations } from './documented.ts'
import { failure, faultyFetch, lost, quickClock, unreachable } from './faulty-fetch.ts'
import { type Scene, scene } from './scene.ts'

const url = 'http://behalf.test'
const TOKEN = '/agent/token'
const PROGRESS = '/agent/progress'
const END = '/agent/session/end'

type Options = Partial<AgentClientOptions> & {
  onWait?: (s: Scene, count: number) => unknown
  /** Adds routes. */
  extend?: (s: Scene) => unknown
}

/** An agent, and a user with a session who is in the room unless a test says otherwise. */
async function worker({ onWait, extend, ...options }: Options = {}) {
  const s = await scene()
  extend?.(s)
  const network = faultyFetch(s.app)
  const { clock, waits } = quickClock(s.clock, (count) => onWait?.(s, count))
  const credentials = await s.newAgent()
  const agent = agentClient({ url, ...credentials, fetch: network.fetch, clock, ...options })
  const user = await s.newUser()
  const { pair, joinToken } = await s.newSession(user)
  network.sent.length = 0
  return {
    s,
    network,
    waits,
    agent,
    user,
    pair,
    session: agent.session(pair),
    join: () => s.sfu.join(joinToken),
    agentEvents: async () => (await s.eventsOf(user, pair)).filter(({ agentId }) => agentId),
  }
}

const keysOf = ({ sentTo }: ReturnType<typeof faultyFetch>) =>
  sentTo(PROGRESS).map(({ headers }) => headers.get('Idempotency-Key'))
const sum = (numbers: number[]) => numbers.reduce((total, one) => total + one, 0)

describe('the agent client', () => {
  test('reports progress, reads the context and ends the session', async () => {
    const { session, join, pair, agentEvents } = await worker()
    join()
    const stored = await session.progress({ step: 1 }, { type: 'lesson.step' })
    expect(stored).toMatchObject({ sessionId: pair.sessionId, seq: 2 })
    const context = await session.context()
    expect(context).toMatchObject({ user: { id: pair.userId, guest: true }, session: { status: 'live' }, cursor: 2 })
    expect(context.events.at(-1)).toMatchObject({ type: 'lesson.step', data: { step: 1 }, agentId: 'tutor' })
    const ended = await session.end({ reason: 'lesson over', result: { score: 3 } })
    expect(ended).toMatchObject({ id: pair.sessionId, status: 'ended', endReason: 'agent' })
    expect(await agentEvents()).toHaveLength(1)
  })

  test('shares one service token between simultaneous calls, and renews it before it expires', async () => {
    const { s, session, join, network } = await worker()
    join()
    await Promise.all(Array.from({ length: 10 }, (_, step) => session.progress({ step })))
    expect(network.sentTo(TOKEN)).toHaveLength(1)
    s.clock.advance(15 * 60 - 61)
    await session.context()
    expect(network.sentTo(TOKEN)).toHaveLength(1)
    s.clock.advance(2)
    await session.context()
    expect(network.sentTo(TOKEN)).toHaveLength(2)
    expect(new Set(keysOf(network)).size).toBe(10)
  })

  test('gets a new service token when the service refuses the current one', async () => {
    const { s, session, join, network } = await worker({ clock: { now: () => 0, wait: async () => {} } })
    join()
    await session.context()
    s.clock.advance(60 * 60)
    await session.context()
    expect(network.sentTo(TOKEN)).toHaveLength(2)
  })

  test('reports the RFC 6749 error for a wrong secret, and does not retry', async () => {
    const { session, waits, network } = await worker({ secret: 'wrong' })
    expect(await failure(session.context())).toMatchObject({
      code: 'invalid_client',
      status: 401,
      detail: 'Client authentication failed.',
      requestId: expect.stringMatching(/./),
    })
    expect(waits).toEqual([])
    expect(network.sentTo(TOKEN)).toHaveLength(1)
  })
})

describe('a custom route, through the agent client,', () => {
  const Order = Pair.extend({ item: z.string() })

  /** A route that takes orders by POST and gives them back by GET, behind the guard. */
  async function shop(refuse?: () => never) {
    const orders: string[] = []
    const path = '/agent/orders'
    const placed = { input: Order, answer: z.object({ orderId: z.number() }), status: 201 } as const
    const listed = { input: Pair, answer: z.object({ orders: z.array(z.string()) }), status: 200 } as const
    const extend = ({ app, agentRoute }: Scene) => {
      const place = agentRoute({ method: 'post', path, scope: 'progress:write', ...placed }, ({ input }) => {
        refuse?.()
        orders.push(input.item)
        return { orderId: orders.length }
      })
      const list = agentRoute({ method: 'get', path, scope: 'context:read', ...listed }, () => ({ orders }))
      const clear = agentRoute({ method: 'delete', path, scope: 'progress:write', ...listed }, () => {
        return new Response(null, { status: 204 })
      })
      app.openapi(...place)
      app.openapi(...list)
      app.openapi(...clear)
    }
    return worker({ extend })
  }

  test('is called with the user, the session and the token, by any method', async () => {
    const { agent, session, pair, join } = await shop()
    join()
    expect(await agent.request('/agent/orders', { ...pair, item: 'tea' })).toEqual({ orderId: 1 })
    expect(await session.request('agent/orders', { item: 'milk' })).toEqual({ orderId: 2 })
    expect(await session.request('/agent/orders', {}, { method: 'GET' })).toEqual({ orders: ['tea', 'milk'] })
    expect(await session.request('/agent/orders', {}, { method: 'DELETE' })).toBeUndefined()
    takeViolations()
  })

  test('is retried like other calls: after a lost answer, and until the user has joined', async () => {
    const { session, network, waits, join } = await shop()
    network.plan('/agent/orders', unreachable, async (reach) => {
      const refused = await reach()
      join()
      return refused
    })
    expect(await session.request('/agent/orders', { item: 'tea' })).toEqual({ orderId: 1 })
    expect(waits).toHaveLength(2)
    const keys = network.sentTo('/agent/orders').map(({ headers }) => headers.get('Idempotency-Key'))
    expect(keys).toEqual(Array(3).fill(expect.stringMatching(/^[0-9a-f-]{36}$/)))
    expect(new Set(keys).size).toBe(1)
    takeViolations()
  })

  test('may refuse with its own problem', async () => {
    const { session, join } = await shop(() => {
      throw new HTTPException(404, { message: 'No such tea.' })
    })
    join()
    expect(await failure(session.request('/agent/orders', { item: 'tea' }))).toMatchObject({
      code: 'refused',
      status: 404,
      detail: 'No such tea.',
    })
    expect(await failure(session.request('/agent/orders'))).toMatchObject({
      code: 'validation_failed',
      errors: [{ field: 'item' }],
    })
    takeViolations()
  })

  test('may be called without the client, with the token', async () => {
    const { agent, pair, join, s, network, waits } = await worker()
    join()
    network.plan(TOKEN, unreachable)
    const token = await agent.accessToken()
    expect(waits).toHaveLength(1)
    expect((await s.context(token, pair)).status).toBe(200)
    expect(await agent.accessToken()).toBe(token)
  })
})

describe('a user who has not joined yet', () => {
  test('is waited for as Retry-After says, with one Idempotency-Key', async () => {
    const joins: Array<() => unknown> = []
    const { session, join, network, waits, agentEvents } = await worker({ onWait: (_, n) => n === 2 && joins[0]?.() })
    joins.push(join)
    await session.progress({ step: 1 })
    expect(waits).toHaveLength(2)
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(2_000)
    const [key, ...repeated] = keysOf(network)
    expect(key).toMatch(/^[0-9a-f-]{36}$/)
    expect(repeated).toEqual([key, key])
    expect(await agentEvents()).toHaveLength(1)
  })

  test.each([
    [10_000, 4],
    [3_000, 1],
    [0, 0],
  ])('is given up after %i ms and %i retries', async (notLivePatienceMs, repeats) => {
    const { session, waits } = await worker({ notLivePatienceMs })
    expect(await failure(session.context())).toMatchObject({ code: 'session_not_live', retryAfterSeconds: 2 })
    expect(sum(waits)).toBeLessThanOrEqual(notLivePatienceMs)
    expect(waits).toHaveLength(repeats)
  })

  test('is not waited for once the call is aborted', async () => {
    const stop = new AbortController()
    const reason = new Error('the job is over')
    const { session, waits } = await worker({ onWait: () => stop.abort(reason) })
    expect(await failure(session.progress({}, { signal: stop.signal }))).toBe(reason)
    expect(waits).toHaveLength(1)
  })
})

describe('what retrying cannot fix', () => {
  test('is refused at once: an ended session, a mismatched user and session, an invalid body', async () => {
    const { s, agent, session, join, pair, user, waits } = await worker()
    join()
    const { userId } = pair
    expect(await failure(agent.progress({ userId, sessionId: 'sess_1' }, {}))).toMatchObject({
      code: 'session_mismatch',
    })
    const wrong = await failure(session.progress({}, { type: 'session.status' }))
    expect(wrong).toMatchObject({ code: 'validation_failed', errors: [{ field: 'type' }] })
    expect(await failure(session.progress({}, { idempotencyKey: ' ' }))).toMatchObject({ status: 400 })
    await s.app.request(`/sessions/${pair.sessionId}`, {
      method: 'DELETE',
      headers: { Authorization: `Bearer ${user.bearer}` },
    })
    expect(await failure(session.progress({}))).toMatchObject({ code: 'session_ended', status: 409 })
    expect(waits).toEqual([])
  })
})

describe('when the network or the service fails, a call', () => {
  test('does not store progress twice after a lost answer', async () => {
    const { session, join, network, agentEvents } = await worker()
    join()
    network.plan(PROGRESS, lost, unreachable, lost)
    const { seq } = await session.progress({ step: 1 })
    expect(await agentEvents()).toMatchObject([{ seq, data: { step: 1 } }])
    expect(keysOf(network)).toHaveLength(4)
    expect(new Set(keysOf(network)).size).toBe(1)
  })

  test('retries with the same body, even if the object was changed', async () => {
    const data = { step: 1 }
    const { session, join, network, agentEvents } = await worker({
      onWait: () => {
        data.step = 2
      },
    })
    join()
    network.plan(PROGRESS, lost)
    await session.progress(data)
    expect(await agentEvents()).toMatchObject([{ data: { step: 1 } }])
  })

  test('waits while LiveKit cannot say who is in the room', async () => {
    const { s, session, join, waits } = await worker({
      onWait: ({ sfu }) => {
        sfu.mode = 'ok'
      },
    })
    join()
    s.sfu.mode = 'error500'
    await session.context()
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(2_000)
  })

  test('waits for the token endpoint as well', async () => {
    const { session, join, network } = await worker()
    join()
    network.plan(TOKEN, unreachable, () => new Response('upstream', { status: 502 }))
    await session.context()
    expect(network.sentTo(TOKEN)).toHaveLength(3)
  })

  test.each([
    ['in seconds', () => '7'],
    ['as a date', () => new Date(Date.now() + 7_000).toUTCString()],
  ])('retries when Retry-After says so, %s', async (_, retryAfter) => {
    const { session, join, network, waits } = await worker()
    join()
    network.plan(PROGRESS, () => new Response('{}', { status: 503, headers: { 'Retry-After': retryAfter() } }))
    await session.progress({})
    expect(waits).toHaveLength(1)
    expect(waits[0]).toBeGreaterThan(5_900)
    expect(waits[0]).toBeLessThanOrEqual(7_000)
  })

  test('gives up in the end', async () => {
    const { session, join, network, waits } = await worker({ unavailablePatienceMs: 5_000 })
    join()
    network.plan(END, ...Array.from({ length: 100 }, () => unreachable))
    expect(await failure(session.end())).toMatchObject({ code: 'unreachable' })
    expect(sum(waits)).toBeLessThanOrEqual(5_000)
    expect(waits.length).toBeGreaterThan(3)
  })
})
