import { describe, expect, test, vi } from 'vitest'
import { directSessions } from './direct-sessions.ts'
import { type Minted, type Scene, type SignedIn, scene } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { makeApp, post } from './support.ts'
import { mint, refusedFields } from './token-client.ts'

const NOBODY = { userId: '', sessionId: '' }

const remove = ({ app }: Scene, { bearer }: SignedIn, sessionId: string | undefined) =>
  app.request(`/sessions/${sessionId}`, { method: 'DELETE', headers: { Authorization: `Bearer ${bearer}` } })

describe('MAX_SESSIONS_PER_USER', () => {
  const tooMany = { status: 409, code: 'too_many_sessions', fields: [] }

  /** As many live sessions of one user, each in a room of its own. */
  async function withLive(count: number, env: Record<string, string>) {
    const s = await scene({ env })
    const user = await s.newUser()
    const live = []
    for (let i = 0; i < count; i++) {
      // Ids of one millisecond have no order.
      s.clock.advance(1)
      const session = await mint(s, user.bearer)
      live.push({ ...session, leg: s.sfu.join(session.token) })
    }
    expect(await s.reconcile()).toBe(true)
    return { s, user, live }
  }

  test('counts live sessions, but not ended ones', async () => {
    const { s, user, live } = await withLive(2, { MAX_SESSIONS_PER_USER: '2' })
    expect(await refusedFields(post(s.app, '/token', {}, user.bearer))).toEqual(tooMany)
    await remove(s, user, live[0]?.session_id)
    await mint(s, user.bearer)
    await s.background.idle()
  })

  test('lets a user whose connection drops dial again: the oldest disconnected session gives way', async () => {
    const { s, user, live } = await withLive(3, { MAX_SESSIONS_PER_USER: '3' })
    const [, second, third] = live
    for (const { leg } of [second, third].filter((one) => one !== undefined)) {
      s.sfu.leave(leg)
      await postWebhook(s, webhookEvent('participant_left', leg))
      s.clock.advance(1)
    }
    const endOf = async (session_id: string | undefined) => {
      const { status, endReason } = (await s.store.sessions.find(session_id ?? '')) ?? {}
      return [status, endReason]
    }
    await mint(s, user.bearer)
    expect(await Promise.all(live.map(({ session_id }) => endOf(session_id)))).toEqual([
      ['live', null],
      ['ended', 'superseded'],
      ['disconnected', null],
    ])
    for (let i = 0; i < 6; i++) s.sfu.join((await mint(s, user.bearer)).token)
    expect(await endOf(live[0]?.session_id)).toEqual(['live', null])
    await s.background.idle()
  })

  test('removes a participant that comes back to a disconnected session that gave way', async () => {
    const { s, user, live } = await withLive(1, { MAX_SESSIONS_PER_USER: '1' })
    const [first] = live
    if (!first) throw new Error('There is no session')
    s.sfu.leave(first.leg)
    await postWebhook(s, webhookEvent('participant_left', first.leg))
    await mint(s, user.bearer)
    await postWebhook(s, webhookEvent('participant_joined', s.sfu.join(first.token)))
    await s.background.idle()
    expect(s.sfu.rooms.has(first.room)).toBe(false)
  })

  test('is five per user, and does not block renewals of existing sessions', async () => {
    const { s, user, live } = await withLive(5, {})
    expect(await refusedFields(post(s.app, '/token', {}, user.bearer))).toEqual(tooMany)
    await mint(s, user.bearer, { session_id: live[0]?.session_id })
    await mint(s, (await s.newUser()).bearer)
  })
})

describe('a session joined beyond MAX_SESSIONS_PER_USER', () => {
  /** Three of one user, none of them joined yet. */
  async function waiting(max: string) {
    const s = await scene({ env: { MAX_SESSIONS_PER_USER: max } })
    const agent = await s.newAgent()
    const user = await s.newUser()
    const minted: Minted[] = []
    for (let i = 0; i < 3; i++) {
      s.clock.advance(1)
      minted.push(await s.newSession(user))
    }
    const sessions = minted.map((session) => ({
      ...session,
      join: () => s.sfu.join(session.joinToken),
      found: () => s.progress(agent.bearer, session.pair),
    }))
    const statuses = async () => {
      await s.background.idle()
      return Promise.all(minted.map(async ({ pair }) => (await s.sessionOf(user, pair)).status))
    }
    const rooms = () => minted.map(({ room }) => s.sfu.rooms.has(room))
    return { s, user, sessions, statuses, rooms }
  }

  test.each(['a webhook', 'the reconciler', 'a callback'])('ends the oldest live one (reported by %s)', async (way) => {
    const { s, user, sessions, statuses, rooms } = await waiting('2')
    for (const { join, found } of sessions) {
      s.clock.advance(1)
      const leg = join()
      if (way === 'a webhook') await postWebhook(s, webhookEvent('participant_joined', leg))
      else if (way === 'the reconciler') await s.reconcile()
      else expect((await found()).status).toBe(201)
      await s.background.idle()
    }
    expect(await statuses()).toEqual(['ended', 'live', 'live'])
    expect(rooms()).toEqual([false, true, true])
    const [oldest] = sessions
    expect(await s.sessionOf(user, oldest?.pair ?? NOBODY)).toMatchObject({ endReason: 'limit' })
  })

  test('ends the oldest live one with the next comparison, if the instance died as soon as the join was stored', async () => {
    const { s, user, sessions, statuses, rooms } = await waiting('2')
    const dying = directSessions(s.store)
    // The oldest is joined last.
    for (const { join, pair } of sessions.toReversed()) {
      s.clock.advance(1)
      const { participant, room } = join()
      const joined = { kind: 'joined', sid: participant.sid, roomSid: room.sid, at: s.store.clock.steady() } as const
      await dying.observe({ session: pair.sessionId }, joined)
    }
    expect(await statuses()).toEqual(['live', 'live', 'live'])
    await s.reconcile()
    expect(await statuses()).toEqual(['live', 'ended', 'live'])
    expect(rooms()).toEqual([true, false, true])
    expect(await s.sessionOf(user, sessions[1]?.pair ?? NOBODY)).toMatchObject({ endReason: 'limit' })
  })

  test('together with others leaves the allowed number', async () => {
    const { s, sessions, statuses, rooms } = await waiting('1')
    for (const { join } of sessions) join()
    await s.reconcile()
    expect((await statuses()).sort()).toEqual(['ended', 'ended', 'live'])
    expect(rooms().filter(Boolean)).toHaveLength(1)
  })

  test('does not revive the session it ended', async () => {
    const { s, sessions, statuses, rooms } = await waiting('1')
    const [a, b] = sessions
    for (let i = 0; i < 3; i++) {
      for (const session of [a, b]) {
        s.clock.advance(1)
        const leg = session?.join()
        if (leg) await postWebhook(s, webhookEvent('participant_joined', leg))
        await s.background.idle()
      }
    }
    expect(await statuses()).toEqual(['ended', 'live', 'pending'])
    expect(rooms()).toEqual([false, true, false])
  })

  test('does not end another user’s session', async () => {
    const { s, sessions, statuses } = await waiting('1')
    const other = await s.present()
    sessions[0]?.join()
    await s.reconcile()
    expect(await statuses()).toEqual(['live', 'pending', 'pending'])
    expect((await s.sessionOf(other.user, other.pair)).status).toBe('live')
  })
})

describe('sessions whose user never joined', () => {
  test('are limited to ten: the oldest is superseded, but never a live one', async () => {
    const s = await scene()
    const user = await s.newUser()
    const sessionIds: string[] = []
    const another = async () => {
      s.clock.advance(1)
      const { session_id = '', token } = await mint(s, user.bearer)
      sessionIds.push(session_id)
      return token
    }
    s.sfu.join(await another())
    await s.reconcile()
    for (let i = 0; i < 12; i++) await another()
    await s.background.idle()
    const [live, first, second, ...pending] = await Promise.all(
      sessionIds.map(async (id) => (await s.store.sessions.find(id)) ?? undefined),
    )
    expect(live?.status).toBe('live')
    for (const gone of [first, second]) expect(gone).toMatchObject({ status: 'ended', endReason: 'superseded' })
    expect(pending.map((session) => session?.status)).toEqual(Array(10).fill('pending'))
    const events = await s.eventsOf(user, { userId: user.id, sessionId: first?.id ?? '' })
    expect(events.map(({ data }) => data)).toEqual([{ status: 'ended', reason: 'superseded' }])
  })

  describe('and were superseded during a join', () => {
    async function superseded() {
      const s = await scene()
      const present = await s.present()
      for (let i = 0; i < 10; i++) {
        s.clock.advance(1)
        await mint(s, present.user.bearer)
      }
      await s.background.idle()
      expect(s.sfu.questions).toEqual([])
      return { s, ...present }
    }

    test('have their participant removed as soon as LiveKit reports the join', async () => {
      const { s, room, leg } = await superseded()
      await postWebhook(s, webhookEvent('participant_joined', leg))
      await s.background.idle()
      expect(s.sfu.rooms.has(room)).toBe(false)
    })

    test('have their participant removed by the next reconciliation', async () => {
      const { s, room } = await superseded()
      await s.reconcile()
      expect(s.sfu.rooms.has(room)).toBe(false)
      expect(await s.store.sessions.listToRemove()).toEqual([])
    })
  })

  test('cost no LiveKit request each when superseded', async () => {
    const s = await scene()
    const user = await s.newUser()
    await post(s.app, '/rooms', { room: 'kept' }, user.bearer)
    for (let i = 0; i < 30; i++) {
      s.clock.advance(1)
      await mint(s, user.bearer, i % 2 === 0 ? { room: 'kept' } : {})
    }
    const before = s.sfu.asked()
    s.clock.advance(1)
    await s.reconcile()
    await s.background.idle()
    expect(await s.store.sessions.listToRemove()).toEqual([])
    // The rooms, and who is in the one that exists.
    expect(s.sfu.asked() - before).toBe(2)
  })

  test('stay ended when joined with an old token, and the participant is removed', async () => {
    const s = await scene()
    const user = await s.newUser()
    const first = await mint(s, user.bearer)
    for (let i = 0; i < 10; i++) {
      s.clock.advance(1)
      await mint(s, user.bearer)
    }
    await s.background.idle()
    s.sfu.join(first.token)
    s.clock.advance(1)
    await s.reconcile()
    await s.background.idle()
    expect(s.sfu.rooms.has(first.room)).toBe(false)
    expect((await s.store.sessions.find(first.session_id ?? ''))?.endReason).toBe('superseded')
  })
})

describe('POST /token while LiveKit does not answer', () => {
  const unavailable = { status: 503, code: 'livekit_unavailable', fields: [] }

  test.each(['reset', 'error500', 'html404'] as const)(
    'issues every token that needs no LiveKit request (%s)',
    async (mode) => {
      const s = await scene()
      const { bearer } = await s.newUser()
      const { session_id } = await mint(s, bearer, { room: 'mine' })
      s.sfu.mode = mode
      const asked = s.sfu.asked()
      await mint(s, bearer)
      await mint(s, bearer, { room: 'mine' })
      await mint(s, bearer, { session_id })
      expect(s.sfu.asked()).toBe(asked)

      const before = await s.store.sessions.listUnfinished()
      const refused = await post(s.app, '/token', { room: 'new' }, bearer)
      expect(refused.headers.get('Retry-After')).toBe('2')
      expect(await refusedFields(refused)).toEqual(unavailable)
      for (const request of [{ auto_create_room: true }, { room: 'mine', auto_create_room: true }]) {
        expect(await refusedFields(post(s.app, '/token', request, bearer))).toEqual(unavailable)
      }
      expect(await s.store.sessions.listUnfinished()).toEqual(before)
      expect(await s.store.rooms.findOwner('new')).toBeNull()
    },
  )

  test('treats an unreachable server the same', async () => {
    const t = await makeApp()
    const guest = (await (await post(t.app, '/auth/guest', {})).json()) as { access_token: string }
    await mint(t, guest.access_token)
    expect(await refusedFields(post(t.app, '/token', { room: 'new' }, guest.access_token))).toEqual(unavailable)
  })
})

describe('auto_create_room', () => {
  test('creates the room with its timeouts and no agents before the join', async () => {
    const s = await scene()
    const { bearer } = await s.newUser()
    await s.accounts.create('tutor', [])
    const createRoom = vi.spyOn(s.livekit, 'createRoom')
    const agents = { room_config: { agents: [{ agent_name: 'tutor' }] } }
    const named = await mint(s, bearer, { room: 'lesson', auto_create_room: true, ...agents })
    const unnamed = await mint(s, bearer, { auto_create_room: true })
    expect([...s.sfu.rooms.keys()]).toEqual([named.room, unnamed.room])
    expect(createRoom).toHaveBeenNthCalledWith(1, 'lesson', { emptyTimeout: 300, departureTimeout: 60 })
    expect(s.sfu.rooms.get('lesson')?.dispatches.map(({ agentName }) => agentName)).toEqual([''])
  })

  test('creates nothing when false', async () => {
    const s = await scene()
    await mint(s, (await s.newUser()).bearer, { room: 'lesson', auto_create_room: false })
    expect(s.sfu.rooms.size).toBe(0)
  })
})
