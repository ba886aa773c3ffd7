import { describe, expect, test } from 'vitest'
import { openStore } from '../src/store/store.ts'
import { storeBefore } from './older-store.ts'
import { callingScene, refusal, scene } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { post } from './support.ts'
import { mint } from './token-client.ts'

const FULL = { status: 409, code: 'session_full' }

describe('a session', () => {
  test('takes MAX_EVENTS_PER_SESSION events from agents; replays and the end still work then', async () => {
    const { s, agent, user, pair, report } = await callingScene({ env: { MAX_EVENTS_PER_SESSION: '3' } })
    const key = { 'Idempotency-Key': 'first' }
    const first = await s.progress(agent.bearer, pair, key)
    expect(first.status).toBe(201)
    expect((await report()).status).toBe(201)
    // The status event is the first of the three.
    expect(await refusal(report())).toEqual(FULL)
    expect(await (await s.progress(agent.bearer, pair, key)).json()).toEqual(await first.json())
    expect((await s.end(agent.bearer, pair, { reason: 'done', result: { score: 1 } })).status).toBe(200)
    expect((await s.eventsOf(user, pair)).map(({ type }) => type)).toEqual([
      'session.status',
      'progress',
      'progress',
      'session.status',
    ])
    await s.background.idle()
  })

  test('takes MAX_EVENT_MIB_PER_SESSION of data from agents, and a smaller event may still fit', async () => {
    const { s, agent, pair } = await callingScene({ env: { MAX_EVENT_MIB_PER_SESSION: '1' } })
    const send = (size: number) => s.progress(agent.bearer, pair, {}, { text: 'é'.repeat(size / 2) })
    for (let i = 0; i < 17; i++) expect((await send(60 * 1024)).status).toBe(201)
    expect(await refusal(send(60 * 1024))).toEqual(FULL)
    expect((await send(1024)).status).toBe(201)
    expect((await s.end(agent.bearer, pair, { result: { text: 'x'.repeat(60 * 1024) } })).status).toBe(200)
    await s.background.idle()
  })

  test('has a refusal by its quota in the audit trail', async () => {
    const { s, pair, report } = await callingScene({ env: { MAX_EVENTS_PER_SESSION: '1' } })
    expect(await refusal(report())).toEqual(FULL)
    const outcomes = (await s.store.audit.ofSession(pair.sessionId, 10)).map(({ outcome }) => outcome)
    expect(outcomes.sort()).toEqual(['allowed', 'session_full'])
  })
})

describe('MAX_ROOMS_PER_USER', () => {
  const TOO_MANY = { status: 409, code: 'too_many_rooms' }

  test('counts names claimed by either route, each user’s own, and no fresh room of a session', async () => {
    const s = await scene({ env: { MAX_ROOMS_PER_USER: '2' } })
    const user = await s.newUser()
    for (let i = 0; i < 3; i++) await mint(s, user.bearer)
    await mint(s, user.bearer, { room: 'first' })
    expect((await post(s.app, '/rooms', {}, user.bearer)).status).toBe(201)
    for (const [path, body] of [
      ['/rooms', { room: 'third' }],
      ['/rooms', {}],
      ['/token', { room: 'third' }],
    ] as const) {
      expect(await refusal(post(s.app, path, body, user.bearer))).toEqual(TOO_MANY)
    }
    expect((await post(s.app, '/rooms', { room: 'first' }, user.bearer)).status).toBe(200)
    await mint(s, user.bearer, { room: 'first' })
    await mint(s, user.bearer)
    await mint(s, (await s.newUser()).bearer, { room: 'third' })
    await s.background.idle()
  })

  test('is kept by claims at once', async () => {
    const s = await scene({ env: { MAX_ROOMS_PER_USER: '3' } })
    const user = await s.newUser()
    const claims = Array.from({ length: 10 }, (_, i) => post(s.app, '/rooms', { room: `room-${i}` }, user.bearer))
    const statuses = (await Promise.all(claims)).map(({ status }) => status)
    expect(statuses.filter((status) => status === 201)).toHaveLength(3)
    expect(statuses.filter((status) => status === 409)).toHaveLength(7)
  })
})

describe('a webhook with an id that is longer than 128 characters or has a NUL in it', () => {
  const long = 'x'.repeat(129)
  test.each(['event', 'participant', 'room'])('of the %s is refused, and one of 128 is not', async (whose) => {
    const s = await scene()
    const { leg } = await s.present()
    const event = webhookEvent('participant_joined', leg) as ReturnType<typeof webhookEvent> & { participant: object }
    const withId = (id: string) => ({
      ...event,
      ...(whose === 'event' ? { id } : {}),
      ...(whose === 'participant' ? { participant: { ...event.participant, sid: id } } : {}),
      ...(whose === 'room' ? { room: { ...event.room, sid: id } } : {}),
    })
    for (const id of [long, 'x\0']) {
      expect(await refusal(postWebhook(s, withId(id)))).toEqual({ status: 400, code: 'malformed_json' })
    }
    expect((await postWebhook(s, withId(long.slice(1)))).status).toBe(200)
  })
})

test('an update counts what unfinished sessions hold, and no fresh rooms as claimed', async () => {
  const url = storeBefore('agent_rights_and_quotas', (raw) => {
    raw.exec("insert into users (id, created_at, seen_at) values ('user_1', 1, 1)")
    const room = raw.prepare("insert into rooms (name, owner_id, claimed_at, used_at) values (?, 'user_1', 1, 1)")
    for (const name of ['lesson', `room_${'0a'.repeat(16)}`]) room.run(name)
    raw.exec(`insert into sessions (id, user_id, room, status, created_at, token_expires_at, last_seq)
      values ('sess_1', 'user_1', 'lesson', 'live', 1, 1, 2)`)
    const event = raw.prepare(
      "insert into events (session_id, seq, type, data, created_at) values ('sess_1', ?, 'a', ?, 1)",
    )
    event.run(1, '{"a":"é"}')
    event.run(2, '{}')
  })
  const store = await openStore(url)
  expect((await store.sessions.find('sess_1'))?.eventBytes).toBe(10 + 2)
  expect(await store.rooms.claim('second', 'user_1', 1, 2)).toEqual({ ownerId: 'user_1', isNew: true })
  expect(await store.rooms.claim('third', 'user_1', 1, 2)).toBeNull()
  await store.close()
})
