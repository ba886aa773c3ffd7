import { describe, expect, test, vi } from 'vitest'
import { AppError } from '../src/errors.ts'
import { createDispatcher } from '../src/sessions/dispatch.ts'
import { directSessions } from './direct-sessions.ts'
import { type Scene, scene } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { post } from './support.ts'

const TUTOR = { room_config: { agents: [{ agent_name: 'tutor', metadata: 'level 3' }] } }

async function setUp(env = {}) {
  const s = await scene({ env })
  await s.accounts.create('tutor', [])
  s.sfu.workers.add('tutor')
  return { s, user: await s.newUser() }
}

async function reconcileAfter({ clock, reconcile, background }: Scene, seconds: number) {
  clock.advance(seconds)
  await reconcile()
  await background.idle()
}

/** Agent, job attributes and job metadata of every dispatch in the room, but for LiveKit's own of agents without a name. */
const dispatchesIn = ({ sfu }: Scene, room: string) =>
  (sfu.rooms.get(room)?.dispatches ?? [])
    .filter(({ agentName }) => agentName !== '')
    .map(({ agentName, attributes, metadata }) => [agentName, attributes, metadata])

describe('the agent dispatch of a session whose user joins', () => {
  test('comes from the token in a room that the join created, and is not repeated', async () => {
    const { s, user } = await setUp()
    const { room, pair, joinToken } = await s.newSession(user, TUTOR)
    const leg = s.sfu.join(joinToken)
    await postWebhook(s, webhookEvent('participant_joined', leg))
    await s.background.idle()
    await reconcileAfter(s, 20)
    expect(dispatchesIn(s, room)).toEqual([['tutor', pair, 'level 3']])
    expect(s.sfu.asked('CreateDispatch')).toBe(0)
  })

  test.each(['webhook', 'reconciler'] as const)(
    'is created in a room that already existed, when the %s reports the join',
    async (by) => {
      const { s, user } = await setUp()
      await post(s.app, '/rooms', { room: 'lesson' }, user.bearer)
      const { pair, joinToken } = await s.newSession(user, { room: 'lesson', ...TUTOR })
      const leg = s.sfu.join(joinToken)
      expect(dispatchesIn(s, 'lesson')).toEqual([])
      if (by === 'webhook') {
        await postWebhook(s, webhookEvent('participant_joined', leg))
        await s.background.idle()
      } else await reconcileAfter(s, 0)
      const dispatched = [['tutor', pair, 'level 3']]
      expect(dispatchesIn(s, 'lesson')).toEqual(dispatched)
      for (let i = 0; i < 3; i++) await reconcileAfter(s, 20)
      expect(dispatchesIn(s, 'lesson')).toEqual(dispatched)
    },
  )

  test('is created in a room that another session uses', async () => {
    const { s, user } = await setUp()
    const first = await s.newSession(user, { room: 'lesson', ...TUTOR })
    s.sfu.join(first.joinToken)
    await reconcileAfter(s, 0)
    const second = await s.newSession(user, { room: 'lesson', ...TUTOR })
    s.sfu.join(second.joinToken)
    await reconcileAfter(s, 20)
    const named = dispatchesIn(s, 'lesson').map(([, attributes]) => attributes)
    expect(named).toEqual([first.pair, second.pair])
  })

  test('is created again after the room was closed', async () => {
    const { s, user } = await setUp()
    const { room, pair, joinToken } = await s.newSession(user, TUTOR)
    s.sfu.join(joinToken)
    await reconcileAfter(s, 0)
    s.sfu.finishRoom(room)
    s.sfu.enter(room, { identity: 'somebody' })
    s.sfu.join(joinToken)
    await reconcileAfter(s, 20)
    expect(dispatchesIn(s, room)).toEqual([['tutor', pair, 'level 3']])
  })

  test('is created once, even if LiveKit reports the join many times at once', async () => {
    const { s, user } = await setUp()
    await post(s.app, '/rooms', { room: 'lesson' }, user.bearer)
    const { joinToken } = await s.newSession(user, { room: 'lesson', ...TUTOR })
    const leg = s.sfu.join(joinToken)
    const deliveries = Array.from({ length: 5 }, () => postWebhook(s, webhookEvent('participant_joined', leg)))
    await Promise.all([...deliveries, s.reconcile()])
    await s.background.idle()
    expect(dispatchesIn(s, 'lesson')).toHaveLength(1)
  })

  test('is created by the reconciler when the first attempt failed', async () => {
    const { s, user } = await setUp()
    await post(s.app, '/rooms', { room: 'lesson' }, user.bearer)
    const { joinToken } = await s.newSession(user, { room: 'lesson', ...TUTOR })
    s.sfu.join(joinToken)
    const down = new AppError('livekit_unavailable', 'LiveKit did not answer.')
    vi.spyOn(s.livekit, 'createDispatch').mockRejectedValueOnce(down)
    await reconcileAfter(s, 0)
    expect(dispatchesIn(s, 'lesson')).toEqual([])
    await reconcileAfter(s, 20)
    expect(dispatchesIn(s, 'lesson')).toHaveLength(1)
  })

  describe('whose creation LiveKit does not confirm in time', () => {
    /** A user in a room that existed before, and a LiveKit that carries the creation out when released, or not at all. */
    async function unconfirmed() {
      const s = await scene({ timeoutMs: 1000 })
      await s.accounts.create('tutor', [])
      s.sfu.workers.add('tutor')
      const user = await s.newUser()
      await post(s.app, '/rooms', { room: 'lesson' }, user.bearer)
      const { joinToken } = await s.newSession(user, { room: 'lesson', ...TUTOR })
      let release = () => {}
      const held = new Promise<void>((resolve) => {
        release = resolve
      })
      s.sfu.before('CreateDispatch', () => held)
      s.sfu.join(joinToken)
      await reconcileAfter(s, 0)
      expect([s.sfu.asked('CreateDispatch'), dispatchesIn(s, 'lesson')]).toEqual([1, []])
      return { s, user, joinToken, release }
    }

    test('is not repeated while LiveKit may yet carry it out, even for a new connection', async () => {
      const { s, joinToken, release } = await unconfirmed()
      s.sfu.join(joinToken)
      await reconcileAfter(s, 5)
      await reconcileAfter(s, 4)
      expect(s.sfu.asked('CreateDispatch')).toBe(1)
      release()
      await vi.waitFor(() => expect(dispatchesIn(s, 'lesson')).toHaveLength(1))
      for (let i = 0; i < 3; i++) await reconcileAfter(s, 20)
      expect([s.sfu.asked('CreateDispatch'), dispatchesIn(s, 'lesson').length]).toEqual([1, 1])
    })

    test('is repeated when LiveKit has none ten seconds later', async () => {
      const { s } = await unconfirmed()
      await reconcileAfter(s, 11)
      expect([s.sfu.asked('CreateDispatch'), dispatchesIn(s, 'lesson').length]).toEqual([2, 1])
    })
  })

  test('is created again at once after LiveKit refused it', async () => {
    const { s, user } = await setUp()
    await post(s.app, '/rooms', { room: 'lesson' }, user.bearer)
    const { joinToken } = await s.newSession(user, { room: 'lesson', ...TUTOR })
    s.sfu.join(joinToken)
    const { alter } = s.sfu
    s.sfu.before('CreateDispatch', () => {
      s.sfu.alter = () => {
        s.sfu.alter = alter
        s.sfu.rooms.get('lesson')?.dispatches.pop()
        return { status: 400, body: { code: 'invalid_argument', msg: 'no' } }
      }
    })
    await reconcileAfter(s, 0)
    expect([s.sfu.asked('CreateDispatch'), dispatchesIn(s, 'lesson').length]).toEqual([1, 0])
    await reconcileAfter(s, 0)
    expect([s.sfu.asked('CreateDispatch'), dispatchesIn(s, 'lesson').length]).toEqual([2, 1])
  })

  test('is not created for an agent that was disabled after the token was minted', async () => {
    const { s, user } = await setUp()
    await post(s.app, '/rooms', { room: 'lesson' }, user.bearer)
    const { joinToken } = await s.newSession(user, { room: 'lesson', ...TUTOR })
    await s.accounts.disable('tutor')
    s.sfu.join(joinToken)
    await reconcileAfter(s, 0)
    await reconcileAfter(s, 20)
    expect(dispatchesIn(s, 'lesson')).toEqual([])
  })

  test('is not created without an agent', async () => {
    const { s, user } = await setUp()
    const { room, joinToken } = await s.newSession(user)
    s.sfu.join(joinToken)
    await reconcileAfter(s, 0)
    expect(dispatchesIn(s, room)).toEqual([])
    expect(s.sfu.asked('ListDispatch')).toBe(0)
  })
})

describe('the dispatch of an agent that the user replaced', () => {
  const named = (agent_name: string) => ({ room_config: { agents: [{ agent_name }] } })
  const agentsIn = ({ sfu }: Scene, room: string) =>
    [...(sfu.rooms.get(room)?.participants.values() ?? [])].filter(({ kind }) => kind === 'AGENT').length

  /** A user in a room that someone else is in as well, with a token for another agent. */
  async function replaced() {
    const { s, user } = await setUp()
    await s.accounts.create('coach', [])
    s.sfu.workers.add('coach')
    const { room, pair, joinToken } = await s.newSession(user, TUTOR)
    s.sfu.join(joinToken)
    s.sfu.enter(room, { identity: 'somebody' })
    await reconcileAfter(s, 0)
    expect([dispatchesIn(s, room).map(([agent]) => agent), agentsIn(s, room)]).toEqual([['tutor'], 1])
    const renewed = await s.newSession(user, { session_id: pair.sessionId, ...named('coach') })
    return { s, user, room, pair, joinToken: renewed.joinToken }
  }

  test.each(['joins with the new token', 'stays'])('is deleted when the user %s', async (how) => {
    const { s, room, joinToken } = await replaced()
    if (how !== 'stays') s.sfu.join(joinToken)
    await reconcileAfter(s, 20)
    expect([dispatchesIn(s, room).map(([agent]) => agent), agentsIn(s, room)]).toEqual([['coach'], 1])
  })

  test('is deleted when the session ends before the next agent comes', async () => {
    const { s, user, room, pair } = await replaced()
    await s.sessions.end(pair.sessionId, 'user')
    await s.background.idle()
    expect([dispatchesIn(s, room), agentsIn(s, room)]).toEqual([[], 0])
    expect((await s.sessionOf(user, pair)).status).toBe('ended')
  })
})

describe('a dispatch that no worker accepted', () => {
  /** A user in the room, dispatched for while there is no worker. */
  async function untaken() {
    const { s, user } = await setUp()
    s.sfu.workers.clear()
    const session = await s.newSession(user, TUTOR)
    const leg = s.sfu.join(session.joinToken)
    await reconcileAfter(s, 0)
    const jobs = () => s.sfu.rooms.get(session.room)?.dispatches.map((dispatch) => dispatch.jobs.length)
    return { s, user, ...session, leg, jobs }
  }

  test('is recreated until a worker accepts it', async () => {
    const { s, room, pair, jobs } = await untaken()
    for (let i = 0; i < 3; i++) await reconcileAfter(s, 20)
    expect(s.sfu.asked('CreateDispatch')).toBe(3)
    expect(jobs()).toEqual([0])
    s.sfu.workers.add('tutor')
    for (let i = 0; i < 3; i++) await reconcileAfter(s, 20)
    expect(s.sfu.asked('CreateDispatch')).toBe(4)
    expect(jobs()).toEqual([1])
    expect(dispatchesIn(s, room)).toEqual([['tutor', pair, 'level 3']])
  })

  test('is recreated only after ten seconds', async () => {
    const { s } = await untaken()
    await reconcileAfter(s, 10)
    expect(s.sfu.asked('CreateDispatch')).toBe(0)
    await reconcileAfter(s, 0.001)
    expect(s.sfu.asked('CreateDispatch')).toBe(1)
  })

  test('is recreated by only one of two instances', async () => {
    const { s, jobs } = await untaken()
    s.clock.advance(20)
    const [stored] = await s.store.sessions.listUnfinished()
    if (!stored) throw new Error('There is no session')
    const instances = [createDispatcher(deps(s)), createDispatcher(deps(s))]
    const renewed = await Promise.all(instances.map((instance) => instance.renew(stored, new Set(), new Set())))
    expect(renewed.sort()).toEqual([false, true])
    expect(jobs()).toEqual([0])
  })

  test('is not recreated when an agent is in the room or the user has left', async () => {
    const { s, user, room, leg } = await untaken()
    s.sfu.enter(room, { identity: 'agent-AJ_1', kind: 'AGENT', attributes: { 'lk.agent_name': 'tutor' } })
    await reconcileAfter(s, 20)
    s.sfu.remove(room, 'agent-AJ_1')
    s.sfu.leave(leg)
    s.sfu.enter(room, { identity: user.id, attributes: { sessionId: 'another' } })
    await reconcileAfter(s, 20)
    expect(s.sfu.asked('CreateDispatch')).toBe(0)
  })
})

describe('a dispatch whose job was lost', () => {
  /** A user in the room, whose agent was there as well; `lose` is what a worker killed with -9 looks like. */
  async function lost(env = {}) {
    const { s, user } = await setUp(env)
    const session = await s.newSession(user, TUTOR)
    s.sfu.join(session.joinToken)
    const participants = () => [...(s.sfu.rooms.get(session.room)?.participants.values() ?? [])]
    const agents = () => participants().filter(({ kind }) => kind === 'AGENT')
    const lose = () => {
      for (const { identity } of agents()) s.sfu.remove(session.room, identity)
    }
    await reconcileAfter(s, 60)
    expect([agents().length, s.sfu.asked('CreateDispatch')]).toEqual([1, 0])
    return { s, ...session, agents, lose }
  }

  test('has the pair in its attributes, and the client’s metadata as it is, which speaks for no other session', async () => {
    const { s } = await setUp()
    const victim = await s.present(TUTOR)
    const words = JSON.stringify(victim.pair)
    const told = await s.present({ room_config: { agents: [{ agent_name: 'tutor', metadata: words }] } })
    const silent = await s.present({ room_config: { agents: [{ agent_name: 'tutor' }] } })
    const ofRoom = (room: string) => s.sfu.rooms.get(room)?.dispatches
    expect(ofRoom(told.room)).toMatchObject([{ metadata: words, attributes: told.pair }])
    expect(ofRoom(silent.room)).toMatchObject([{ metadata: '', attributes: silent.pair }])
    // The attributes tell whose dispatch it is, so it is not made twice.
    await reconcileAfter(s, 0)
    expect(ofRoom(told.room)).toHaveLength(1)
  })

  test('with JOB_METADATA=json has the pair, the room, the attempt and the client’s words as JSON in its metadata', async () => {
    const { s, pair, room, lose } = await lost({ JOB_METADATA: 'json' })
    const metadata = () => JSON.parse(s.sfu.rooms.get(room)?.dispatches.at(-1)?.metadata ?? '')
    expect(metadata()).toEqual({ ...pair, room, data: 'level 3' })
    lose()
    await reconcileAfter(s, 40)
    expect(metadata()).toEqual({ ...pair, room, data: 'level 3', attempt: 2 })
  })

  test('is recreated for another worker, and tells it that it is the second attempt', async () => {
    const { s, room, pair, agents, lose } = await lost()
    lose()
    await reconcileAfter(s, 40)
    expect(agents()).toHaveLength(1)
    expect(dispatchesIn(s, room)).toEqual([['tutor', { ...pair, attempt: '2' }, 'level 3']])
    for (let i = 0; i < 5; i++) await reconcileAfter(s, 20)
    expect(s.sfu.asked('CreateDispatch')).toBe(1)
  })

  test.each([
    ['as soon as LiveKit reports that the agent was lost', 'CONNECTION_TIMEOUT', 1],
    ['not before the next comparison if the agent left on its own', 'CLIENT_INITIATED', 0],
  ] as const)('is recreated %s', async (_, disconnectReason, created) => {
    const { s, room, agents, lose } = await lost()
    const [participant] = agents()
    if (!participant) throw new Error('There is no agent')
    s.clock.advance(40)
    lose()
    const { sid = '', name = '' } = s.sfu.rooms.get(room) ?? {}
    const left = webhookEvent('participant_left', { room: { sid, name }, participant, disconnectReason })
    expect((await postWebhook(s, left)).status).toBe(200)
    await s.background.idle()
    expect([agents().length, s.sfu.asked('CreateDispatch')]).toEqual([created, created])
    await reconcileAfter(s, 20)
    expect([agents().length, s.sfu.asked('CreateDispatch')]).toEqual([1, 1])
  })

  test('is recreated although an agent that was not dispatched is in the room', async () => {
    const { s, room, agents, lose } = await lost()
    lose()
    s.sfu.enter(room, { identity: 'supervisor', kind: 'AGENT' })
    await reconcileAfter(s, 40)
    expect(agents()).toHaveLength(2)
  })

  test('is left for thirty seconds, in which a job starts', async () => {
    const { s, user } = await setUp()
    s.sfu.failing.add('tutor')
    const { joinToken } = await s.newSession(user, TUTOR)
    s.sfu.join(joinToken)
    await reconcileAfter(s, 0)
    await reconcileAfter(s, 30)
    expect(s.sfu.asked('CreateDispatch')).toBe(0)
    await reconcileAfter(s, 0.001)
    expect(s.sfu.asked('CreateDispatch')).toBe(1)
  })

  test('is recreated after ten seconds if the agent had joined', async () => {
    const { s, user } = await setUp()
    const { room, joinToken } = await s.newSession(user, TUTOR)
    s.sfu.join(joinToken)
    await reconcileAfter(s, 0)
    for (const { identity, kind } of [...(s.sfu.rooms.get(room)?.participants.values() ?? [])])
      if (kind === 'AGENT') s.sfu.remove(room, identity)
    await reconcileAfter(s, 10)
    expect(s.sfu.asked('CreateDispatch')).toBe(0)
    await reconcileAfter(s, 0.001)
    expect(s.sfu.asked('CreateDispatch')).toBe(1)
  })

  test('is not recreated for an agent that is disabled, until it is enabled', async () => {
    const { s, agents, lose } = await lost()
    await s.accounts.disable('tutor')
    lose()
    for (let i = 0; i < 4; i++) await reconcileAfter(s, 20)
    expect([agents().length, s.sfu.asked('CreateDispatch')]).toEqual([0, 0])
    await s.accounts.enable('tutor')
    await reconcileAfter(s, 20)
    expect(agents()).toHaveLength(1)
  })

  test('again and again is recreated ever more seldom, at last every ten minutes', async () => {
    const { s, lose } = await lost()
    s.sfu.failing.add('tutor')
    lose()
    const created = async (passes: number, seconds: number) => {
      const before = s.sfu.asked('CreateDispatch')
      for (let i = 0; i < passes; i++) await reconcileAfter(s, seconds)
      return s.sfu.asked('CreateDispatch') - before
    }
    expect(await created(30, 20)).toBe(4)
    await created(4, 601)
    expect(await created(4, 590)).toBe(2)
    expect(await created(4, 601)).toBe(4)
  })

  test('whose agent says that it has finished is left alone', async () => {
    const { s, room, agents, lose } = await lost()
    for (const { jobs } of s.sfu.rooms.get(room)?.dispatches ?? [])
      for (const { state } of jobs) state.status = 'JS_SUCCESS'
    lose()
    await reconcileAfter(s, 600)
    expect([agents().length, s.sfu.asked('CreateDispatch')]).toEqual([0, 0])
  })
})

describe('a dispatch by one of two instances that pauses', () => {
  async function twoInstances() {
    const { s, user } = await setUp()
    await post(s.app, '/rooms', { room: 'lesson' }, user.bearer)
    const { joinToken } = await s.newSession(user, { room: 'lesson', ...TUTOR })
    const { sid } = s.sfu.join(joinToken).participant
    const [session] = await s.store.sessions.listUnfinished()
    if (!session) throw new Error('There is no session')
    const ensure = (livekit = s.livekit) => createDispatcher({ ...deps(s), livekit }).ensure(session, sid)
    const agents = () => [...(s.sfu.rooms.get('lesson')?.participants.values() ?? [])].filter((p) => p.kind === 'AGENT')
    return { s, session, ensure, agents }
  }

  test('for more than five seconds before it asks LiveKit is left to the next attempt', async () => {
    const { s, ensure } = await twoInstances()
    // The second of its questions comes after the claim.
    s.sfu.before('ListDispatch', () => s.sfu.before('ListDispatch', () => s.clock.advance(5.001)))
    await ensure()
    expect(s.sfu.asked('CreateDispatch')).toBe(0)
    s.clock.advance(5)
    await ensure()
    expect(dispatchesIn(s, 'lesson')).toHaveLength(1)
  })

  test('until the other has created one too is deleted again', async () => {
    const { s, ensure, agents } = await twoInstances()
    s.sfu.before('CreateDispatch', async () => {
      s.clock.advance(10.001)
      await ensure()
    })
    await ensure()
    expect([s.sfu.asked('CreateDispatch'), dispatchesIn(s, 'lesson').length, agents().length]).toEqual([2, 1, 1])
  })

  test('until the session has ended is deleted again', async () => {
    const { s, session, ensure, agents } = await twoInstances()
    s.sfu.before('CreateDispatch', () => directSessions(s.store).end(session.id, 'user'))
    await ensure()
    expect([s.sfu.asked('CreateDispatch'), dispatchesIn(s, 'lesson').length, agents().length]).toEqual([1, 0, 0])
  })

  test('until the other has found it stays', async () => {
    const { s, ensure, agents } = await twoInstances()
    await ensure({
      ...s.livekit,
      async createDispatch(...args) {
        const id = await s.livekit.createDispatch(...args)
        await ensure()
        return id
      },
    })
    expect([s.sfu.asked('CreateDispatch'), dispatchesIn(s, 'lesson').length, agents().length]).toEqual([1, 1, 1])
  })
})

const deps = ({ store, livekit }: Scene) => ({
  store: store.sessions,
  accounts: store.agents,
  livekit,
  clock: store.clock,
  jobMetadata: 'client' as const,
})

test('a webhook is answered before the dispatch is created', async () => {
  const { s, user } = await setUp()
  await post(s.app, '/rooms', { room: 'lesson' }, user.bearer)
  const { joinToken } = await s.newSession(user, { room: 'lesson', ...TUTOR })
  const leg = s.sfu.join(joinToken)
  const release = s.sfu.hold()
  expect((await postWebhook(s, webhookEvent('participant_joined', leg))).status).toBe(200)
  expect(dispatchesIn(s, 'lesson')).toEqual([])
  release()
  await s.background.idle()
  expect(dispatchesIn(s, 'lesson')).toHaveLength(1)
})
