import { describe, expect, test } from 'vitest'
import type { EndReason, Session } from '../src/store/sessions.ts'
import { ADMISSION, directSessions, NO_LIMITS } from './direct-sessions.ts'
import { makeApp, type TestApp } from './support.ts'

const DAY_SECONDS = 24 * 60 * 60

/** An app with a registered user, and helpers that make sessions with their events and keys. */
async function setUp(env: Record<string, string> = {}) {
  const t = await makeApp({ env })
  const { users, agents } = t.store
  const sessions = directSessions(t.store)
  const at = t.clock.now
  const user = { id: 'user_1', email: 'ada@example.com', name: null, passwordHash: 'x', createdAt: at() }
  await users.insertUser(user)
  const noSecret = {
    secretHash: '0'.repeat(64),
    sealedSecret: null,
    oldSecretHash: null,
    oldSealedSecret: null,
    oldSecretUntil: null,
  }
  await agents.insertAgent({
    id: 'tutor',
    ...noSecret,
    scopes: [],
    generation: 1,
    createdAt: 0,
    disabledAt: null,
    summon: 'any',
  })
  let count = 0
  async function pending(maxPending = NO_LIMITS.maxPending): Promise<string> {
    const id = `sess_${String(++count).padStart(4, '0')}`
    const session = { id, userId: user.id, room: `room-${count}`, createdAt: at(), tokenExpiresAt: at() + 900_000 }
    const limits = { ...NO_LIMITS, maxPending }
    await directSessions(t.store, { limits }).open({
      ...session,
      signInId: null,
      agentName: null,
      agentData: null,
      agentDeployment: null,
    })
    return id
  }
  async function live(): Promise<string> {
    const id = await pending()
    const sid = `PA_${count}`
    await sessions.observe({ session: id }, { kind: 'joined', sid, roomSid: `RM_${count}`, at: at() })
    await sessions.observe({ session: id }, { kind: 'answer', askedAt: at(), present: [sid], joining: [] })
    return id
  }
  async function ended(): Promise<string> {
    const id = await live()
    await sessions.removal.markRemoved(await end(id), true)
    return id
  }
  async function append(sessionId: string, key?: string) {
    const known = await t.store.sessions.load(sessionId)
    if (!known) throw new Error('There is no session')
    const report = { agentId: 'tutor', type: 'progress', data: {} }
    return sessions.report(known, { ...report, key: key === undefined ? null : keyOf(key) }, ADMISSION)
  }
  async function end(id: string, reason: EndReason = 'user') {
    const session = await sessions.end(id, reason)
    if (!session) throw new Error('There is no session')
    return session
  }
  return { ...t, direct: sessions, pending, live, ended, append, end }
}

const keyOf = (key: string) => ({ agentId: 'tutor', key, payloadHash: 'hash' })

/** Counts what one pruning deletes of ended sessions, write by write. */
function counted({ store }: Pick<TestApp, 'store'>): number[] {
  const rows: number[] = []
  const { prune } = store.sessions
  store.sessions.prune = async (...args) => {
    const deleted = await prune(...args)
    rows.push(deleted)
    return deleted
  }
  return rows
}

test('an ended session is pruned with its events after EVENT_RETENTION_DAYS, not before', async () => {
  const t = await setUp({ EVENT_RETENTION_DAYS: '2' })
  const id = await t.ended()
  await t.store.audit.record({ sessionId: id, agentId: 'tutor', route: 'x', outcome: 'allowed', at: t.clock.now() })
  t.clock.advance(2 * DAY_SECONDS)
  await t.prune()
  expect(await t.store.sessions.find(id)).not.toBeNull()
  expect(await t.store.events.page(id, 0, 10)).toHaveLength(2)
  expect(await t.store.audit.ofSession(id, 10)).toHaveLength(1)
  t.clock.advance(1)
  await t.prune()
  expect(await t.store.sessions.find(id)).toBeNull()
  expect(await t.store.events.page(id, 0, 10)).toEqual([])
  expect(await t.store.audit.ofSession(id, 10)).toEqual([])
})

test('an ended session is pruned after 90 days by default', async () => {
  const t = await setUp()
  const id = await t.ended()
  t.clock.advance(90 * DAY_SECONDS)
  await t.prune()
  expect(await t.store.sessions.find(id)).not.toBeNull()
  t.clock.advance(1)
  await t.prune()
  expect(await t.store.sessions.find(id)).toBeNull()
})

test('pruning keeps a session that has not ended or whose participant may still be in the room', async () => {
  const t = await setUp({ EVENT_RETENTION_DAYS: '1' })
  const running = await t.live()
  const inRoom = await t.live()
  await t.end(inRoom, 'agent')
  t.clock.advance(10 * DAY_SECONDS)
  const recent = await t.ended()
  await t.prune()
  for (const id of [running, inRoom, recent]) {
    expect(await t.store.sessions.find(id)).not.toBeNull()
    expect(await t.store.events.page(id, 0, 10)).not.toEqual([])
  }
})

describe('pruning a session whose user never joined', () => {
  /** One that was superseded, one that was not joined in time, and one that its user ended. */
  async function unused() {
    const t = await setUp()
    const { sessions } = t.store
    const superseded = await t.pending()
    await t.pending(1)
    const forgotten = await t.pending()
    t.clock.advance(960)
    await t.direct.observe({ session: forgotten }, { kind: 'answer', askedAt: t.clock.now(), present: [], joining: [] })
    const cancelled = await t.pending()
    await t.end(cancelled)
    const ids = [superseded, forgotten, cancelled]
    const ended = await Promise.all(ids.map((id) => sessions.find(id)))
    expect(ended.map((session) => session?.endReason)).toEqual(['superseded', 'never_joined', 'user'])
    for (const session of ended) if (session?.removedAt === null) await t.direct.removal.markRemoved(session, true)
    const kept = async () => (await Promise.all(ids.map((id) => sessions.find(id)))).filter((known) => known !== null)
    return { t, ids, kept, cancelled }
  }

  test('deletes it a day after its end, with its events and audit trail', async () => {
    const { t, ids, kept, cancelled } = await unused()
    const joined = await t.ended()
    const refused = { agentId: 'tutor', route: 'x', outcome: 'session_not_live', at: t.clock.now() }
    await t.store.audit.record({ sessionId: cancelled, ...refused })
    t.clock.advance(DAY_SECONDS)
    await t.prune()
    expect(await kept()).toHaveLength(3)
    t.clock.advance(1)
    await t.prune()
    expect(await kept()).toEqual([])
    for (const id of ids) expect(await t.store.events.page(id, 0, 10)).toEqual([])
    expect(await t.store.audit.ofSession(cancelled, 10)).toEqual([])
    expect(await t.store.events.page(joined, 0, 10)).toHaveLength(2)
  })

  test('keeps it while its participant may be in the room, and for a day after the last removal', async () => {
    const { t, kept, cancelled } = await unused()
    const session = (await t.store.sessions.find(cancelled)) as Session
    await t.direct.removal.markRemoved(session, false)
    t.clock.advance(DAY_SECONDS + 1)
    await t.prune()
    expect((await kept()).map(({ id }) => id)).toEqual([cancelled])
    await t.direct.removal.markRemoved(session, true)
    t.clock.advance(DAY_SECONDS)
    await t.prune()
    expect(await kept()).toHaveLength(1)
    t.clock.advance(1)
    await t.prune()
    expect(await kept()).toEqual([])
  })
})

test('pruning one huge session or very many small ones takes writes of at most 500 rows', async () => {
  const t = await setUp({ EVENT_RETENTION_DAYS: '1' })
  const long = await t.live()
  for (let i = 0; i < 12; i++) await Promise.all(Array.from({ length: 100 }, () => t.append(long)))
  await t.direct.removal.markRemoved(await t.end(long), true)
  const short: string[] = []
  for (let i = 0; i < 300; i++) short.push(await t.ended())
  t.clock.advance(DAY_SECONDS + 1)
  const rows = counted(t)
  await t.prune()
  expect(Math.max(...rows)).toBe(500)
  // Each session has a presence and two status events; the long one 1200 more.
  expect(rows.reduce((sum, count) => sum + count)).toBe(301 * 4 + 1200)
  for (const id of [long, ...short]) expect(await t.store.sessions.find(id)).toBeNull()
})

test('pruning deletes an Idempotency-Key after a day and keeps its event', async () => {
  const t = await setUp()
  const id = await t.live()
  expect(await t.append(id, 'key-1')).toMatchObject({ seq: 2 })
  const answered = async () => (await t.store.sessions.load(id, keyOf('key-1')))?.answered
  t.clock.advance(DAY_SECONDS)
  await t.prune()
  expect(await answered()).toMatchObject({ event: { seq: 2 } })
  t.clock.advance(1)
  await t.prune()
  expect(await answered()).toBeNull()
  expect(await t.store.events.page(id, 0, 10)).toHaveLength(2)
})

test('pruning deletes webhook ids after two days', async () => {
  const t = await setUp()
  const receive = (id: string) => t.direct.receive({ id, receivedAt: t.clock.now() }, null, null)
  await receive('EV_1')
  t.clock.advance(2 * DAY_SECONDS)
  await t.prune()
  expect(await t.store.sessions.lastWebhookAt()).not.toBeNull()
  t.clock.advance(1)
  await t.prune()
  expect(await t.store.sessions.lastWebhookAt()).toBeNull()
})
