import { describe, expect, test, vi } from 'vitest'
import { AppError } from '../src/errors.ts'
import { directSessions } from './direct-sessions.ts'
import { type Minted, type Pair, type Scene, type SignedIn, scene } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import type { SfuParticipant } from './sfu-rooms.ts'
import { post } from './support.ts'

const OUTAGES = ['error500', 'html404', 'reset'] as const

/** Reconciles after that many seconds, and waits for everything that this starts. */
async function reconcileAfter({ clock, reconcile, background }: Scene, seconds: number) {
  clock.advance(seconds)
  const complete = await reconcile()
  await background.idle()
  return complete
}

const statusAfter = async (s: Scene, user: SignedIn, pair: Pair, seconds: number) => {
  await reconcileAfter(s, seconds)
  return (await s.sessionOf(user, pair)).status
}

const statusEvents = async (s: Scene, user: SignedIn, pair: Pair) => {
  const events = (await s.eventsOf(user, pair)).filter(({ type }) => type === 'session.status')
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1))
  return events.map(({ data }) => data)
}

describe('a session whose user never joined', () => {
  /** Read from the store: the user's own access token has expired by then. */
  const storedAfter = async (s: Scene, { sessionId }: Pair, seconds: number) => {
    await reconcileAfter(s, seconds)
    return s.store.sessions.find(sessionId)
  }

  test('ends a minute after its token expires', async () => {
    const s = await scene()
    const { pair } = await s.newSession(await s.newUser())
    expect(await storedAfter(s, pair, 959)).toMatchObject({ status: 'pending' })
    expect(await storedAfter(s, pair, 1)).toMatchObject({ status: 'ended', endReason: 'never_joined' })
    const events = await s.store.events.page(pair.sessionId, 0, 10)
    expect(events.map(({ data }) => data)).toEqual([{ status: 'ended', reason: 'never_joined' }])
  })

  test('stays pending as long as the newest of its tokens', async () => {
    const s = await scene()
    const user = await s.newUser()
    const { pair } = await s.newSession(user)
    s.clock.advance(600)
    await s.newSession(user, { session_id: pair.sessionId })
    expect(await storedAfter(s, pair, 959)).toMatchObject({ status: 'pending' })
    expect(await storedAfter(s, pair, 1)).toMatchObject({ status: 'ended' })
  })

  test.each(OUTAGES)('does not end while LiveKit is unavailable (%s)', async (mode) => {
    const s = await scene()
    const { pair } = await s.newSession(await s.newUser())
    s.sfu.mode = mode
    expect(await reconcileAfter(s, 5000)).toBe(false)
    expect((await s.store.sessions.find(pair.sessionId))?.status).toBe('pending')
    s.sfu.mode = 'ok'
    expect(await reconcileAfter(s, 0)).toBe(true)
    expect((await s.store.sessions.find(pair.sessionId))?.status).toBe('ended')
  })
})

describe('a user who is in the room', () => {
  test('is found by reconciliation without any webhook', async () => {
    const s = await scene()
    const { user, pair } = await s.present()
    expect(await statusAfter(s, user, pair, 0)).toBe('live')
    expect(await statusAfter(s, user, pair, 20)).toBe('live')
    expect(await statusEvents(s, user, pair)).toEqual([{ status: 'live' }])
  })

  test.each<[string, Partial<SfuParticipant>]>([
    ['an agent', { kind: 'AGENT' }],
    ['another identity', { identity: 'somebody' }],
    ['another session of the same user', { attributes: { sessionId: 'sess_other' } }],
    ['somebody who is still joining', { state: 'JOINING' }],
    ['somebody whose media is not up', { state: 'JOINED' }],
  ])('is not %s', async (_, given) => {
    const s = await scene()
    const user = await s.newUser()
    const { pair, joinToken } = await s.newSession(user)
    s.sfu.join(joinToken, given)
    expect(await statusAfter(s, user, pair, 0)).toBe('pending')
  })

  test('is not confused with a second leg of the token, which does not keep the session live', async () => {
    const s = await scene()
    const { user, pair, joinToken, leg } = await s.present()
    s.sfu.join(joinToken, { identity: `${user.id}#x` })
    expect(await statusAfter(s, user, pair, 0)).toBe('live')
    s.sfu.leave(leg)
    expect(await statusAfter(s, user, pair, 20)).toBe('live')
    expect(await statusAfter(s, user, pair, 20)).toBe('disconnected')
  })
})

describe('a room', () => {
  test('with neither a session nor a participant is skipped by reconciliation', async () => {
    const s = await scene()
    const user = await s.newUser()
    const empty = Array.from({ length: 20 }, (_, i) => `empty-${i}`)
    for (const room of [...empty, 'promised', 'occupied']) await post(s.app, '/rooms', { room }, user.bearer)
    await s.newSession(user, { room: 'promised' })
    s.sfu.enter('occupied', { identity: 'somebody' })
    await reconcileAfter(s, 20)
    const asked = s.sfu.questions.filter(({ method }) => method === 'ListParticipants').map(({ room }) => room)
    expect(asked.sort()).toEqual(['occupied', 'promised'])
  })

  test('whose participant LiveKit does not count yet is checked in the next pass', async () => {
    const s = await scene()
    const { room, joinToken, pair } = await s.present()
    await directSessions(s.store).end(pair.sessionId, 'user')
    await reconcileAfter(s, 20)
    s.sfu.join(joinToken)
    vi.spyOn(s.livekit, 'listRooms').mockResolvedValueOnce([{ sid: 'RM_late', name: room, participants: 0 }])
    await reconcileAfter(s, 20)
    expect(s.sfu.rooms.has(room)).toBe(true)
    await reconcileAfter(s, 20)
    expect(s.sfu.rooms.has(room)).toBe(false)
  })
})

describe('a user who left', () => {
  test('is missing at the first check and gone at the second, and the session ends RECONNECT_SECONDS later', async () => {
    const s = await scene()
    const { user, pair, leg } = await s.present()
    expect(await statusAfter(s, user, pair, 0)).toBe('live')
    s.sfu.leave(leg)
    expect(await statusAfter(s, user, pair, 20)).toBe('live')
    expect(await statusAfter(s, user, pair, 20)).toBe('disconnected')
    expect(await statusAfter(s, user, pair, 59)).toBe('disconnected')
    expect(await statusAfter(s, user, pair, 1)).toBe('ended')
    const ended = { status: 'ended', reason: 'left' }
    expect(await statusEvents(s, user, pair)).toEqual([{ status: 'live' }, { status: 'disconnected' }, ended])
    // LiveKit itself said that the room is empty, so there is no participant to remove.
    expect(await s.store.sessions.listToRemove()).toEqual([])
  })

  test('is missing when the whole room is gone, and when only a webhook had reported the join', async () => {
    const s = await scene()
    const { user, pair, leg, room } = await s.present()
    await postWebhook(s, webhookEvent('participant_joined', leg))
    s.sfu.finishRoom(room)
    expect(await statusAfter(s, user, pair, 20)).toBe('live')
    expect(await statusAfter(s, user, pair, 20)).toBe('disconnected')
  })

  test('has RECONNECT_SECONDS from the reported leave to come back', async () => {
    const s = await scene({ env: { RECONNECT_SECONDS: '10' } })
    const { user, pair, leg } = await s.present()
    await reconcileAfter(s, 0)
    s.sfu.leave(leg)
    await postWebhook(s, webhookEvent('participant_left', leg))
    expect(await statusAfter(s, user, pair, 9)).toBe('disconnected')
    expect(await statusAfter(s, user, pair, 1)).toBe('ended')
  })

  test('and comes back in time makes the same session live again', async () => {
    const s = await scene()
    const { user, pair, leg, joinToken } = await s.present()
    await reconcileAfter(s, 0)
    s.sfu.leave(leg)
    await reconcileAfter(s, 20)
    expect(await statusAfter(s, user, pair, 20)).toBe('disconnected')
    s.sfu.join(joinToken)
    expect(await statusAfter(s, user, pair, 50)).toBe('live')
    expect(await statusAfter(s, user, pair, 500)).toBe('live')
    expect(await statusEvents(s, user, pair)).toEqual([
      { status: 'live' },
      { status: 'disconnected' },
      { status: 'live' },
    ])
  })

  test.each(OUTAGES)('keeps the session while LiveKit does not answer (%s)', async (mode) => {
    const s = await scene()
    const { user, pair, leg } = await s.present()
    await reconcileAfter(s, 0)
    s.sfu.leave(leg)
    await postWebhook(s, webhookEvent('participant_left', leg))
    s.sfu.mode = mode
    for (let i = 0; i < 5; i++) expect(await reconcileAfter(s, 100)).toBe(false)
    expect((await s.sessionOf(user, pair)).status).toBe('disconnected')
    s.sfu.mode = 'ok'
    expect(await statusAfter(s, user, pair, 0)).toBe('ended')
  })

  test.each(OUTAGES)('is not counted as absent because of an outage (%s)', async (mode) => {
    const s = await scene()
    const { user, pair } = await s.present()
    await reconcileAfter(s, 0)
    s.sfu.mode = mode
    for (let i = 0; i < 5; i++) expect(await statusAfter(s, user, pair, 100)).toBe('live')
  })

  test('does not delay other sessions when only their room fails', async () => {
    const s = await scene()
    const [one, other] = [await s.present(), await s.present()]
    const listParticipants = s.livekit.listParticipants.bind(s.livekit)
    vi.spyOn(s.livekit, 'listParticipants').mockImplementation(async (room) => {
      if (room === one.room) throw new AppError('livekit_unavailable', 'LiveKit did not answer.')
      return listParticipants(room)
    })
    expect(await reconcileAfter(s, 0)).toBe(false)
    expect((await s.sessionOf(one.user, one.pair)).status).toBe('pending')
    expect((await s.sessionOf(other.user, other.pair)).status).toBe('live')
  })
})

test('a pass ends although LiveKit answers for no room in time, and the next one begins with the rooms it did not reach', async () => {
  const s = await scene({ env: { GUESTS_PER_ADDRESS_PER_HOUR: '1000' } })
  const all = await Promise.all(Array.from({ length: 60 }, () => s.present()))
  const asked: string[] = []
  vi.spyOn(s.livekit, 'listParticipants').mockImplementation(async (room) => {
    asked.push(room)
    // Eight are asked at once, and each waits for two seconds.
    s.clock.advance(2 / 8)
    throw new AppError('livekit_unavailable', 'LiveKit cannot be asked now.')
  })
  const startedAt = s.clock.elapsed()
  expect(await s.reconcile()).toBe(false)
  expect(s.clock.elapsed() - startedAt).toBeLessThan(8000)
  for (let i = 0; i < 3; i++) await s.reconcile()
  expect(new Set(asked.slice(0, 60)).size).toBe(60)
  expect(new Set(asked)).toEqual(new Set(all.map(({ room }) => room)))
})

describe('a user whose session has ended', () => {
  async function ended() {
    const s = await scene()
    const { user, pair, room, joinToken } = await s.present()
    await reconcileAfter(s, 0)
    await directSessions(s.store).end(pair.sessionId, 'user')
    await reconcileAfter(s, 1)
    expect(s.sfu.rooms.has(room)).toBe(false)
    return { s, user, pair, room, joinToken }
  }

  test('is removed every time they rejoin', async () => {
    const { s, user, pair, room, joinToken } = await ended()
    for (let i = 0; i < 3; i++) {
      s.sfu.join(joinToken)
      await reconcileAfter(s, 20)
      expect(s.sfu.rooms.has(room)).toBe(false)
    }
    expect(await statusEvents(s, user, pair)).toEqual([{ status: 'live' }, { status: 'ended', reason: 'user' }])
  })

  test('and who always rejoins uses at most ten removals of a pass, and none of other users’', async () => {
    const s = await scene()
    const user = await s.newUser()
    const deleted = new Set<string>()
    const endedAndThere = async (who: SignedIn) => {
      const session = await s.newSession(who)
      s.sfu.join(session.joinToken)
      await directSessions(s.store).end(session.pair.sessionId, 'user')
      s.clock.advance(1)
      return session
    }
    const mine: Minted[] = []
    for (let i = 0; i < 25; i++) mine.push(await endedAndThere(user))
    const other = await endedAndThere(await s.newUser())
    s.sfu.onEvent(({ event, room: { name } }) => {
      const back = mine.find(({ room }) => room === name)
      if (event !== 'room_finished' || !back) return
      deleted.add(name)
      s.sfu.join(back.joinToken)
    })

    await s.reconcile()
    expect(s.sfu.asked('DeleteRoom')).toBe(10 + 1)
    expect(s.sfu.rooms.has(other.room)).toBe(false)
    // Removed in turn, however many they are.
    await s.reconcile()
    await s.reconcile()
    expect(deleted.size).toBe(25)
    expect(s.sfu.asked('DeleteRoom')).toBe(3 * 10 + 1)
    // Each was in the room when LiveKit was asked, so each has to be removed.
    expect(await s.store.sessions.listToRemove()).toHaveLength(25)
  })

  test('is removed without touching another live session of theirs in the room', async () => {
    const { s, user, room, joinToken } = await ended()
    const other = await s.newSession(user, { room })
    const leg = s.sfu.join(other.joinToken)
    s.sfu.join(joinToken, { identity: `${user.id}#old` })
    await reconcileAfter(s, 20)
    const there = [...(s.sfu.rooms.get(room)?.participants.values() ?? [])]
    expect(there.map(({ sid }) => sid)).toEqual([leg.participant.sid])
    expect((await s.sessionOf(user, other.pair)).status).toBe('live')
  })
})

test('however many sessions a pass has to write, it writes a limited number at a time', async () => {
  const s = await scene()
  const user = await s.newUser()
  // Each beyond the tenth supersedes the oldest, which then waits for LiveKit to confirm that nobody is in its room.
  for (let i = 0; i < 300; i++) await s.newSession(user)
  expect(await s.store.sessions.listToRemove()).toHaveLength(290)
  let writing = 0
  let most = 0
  const { change } = s.store.sessions
  vi.spyOn(s.store.sessions, 'change').mockImplementation(async (...args) => {
    most = Math.max(most, ++writing)
    return change(...args).finally(() => writing--)
  })
  await s.reconcile()
  expect(await s.store.sessions.listToRemove()).toEqual([])
  expect(most).toBeGreaterThan(10)
  expect(most).toBeLessThanOrEqual(100)
})
