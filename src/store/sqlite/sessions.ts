import { and, asc, desc, eq, getTableColumns, isNotNull, isNull, lt, type SQL, sql } from 'drizzle-orm'
import type { Clock } from '../../clock.ts'
import type { EventHints } from '../event-hints.ts'
import { factChanges } from '../fact-changes.ts'
import {
  type Changed,
  type Decision,
  type IdempotencyKey,
  type Known,
  type Session,
  type SessionFacts,
  type SessionStore,
  toEvent,
  type Which,
} from '../sessions.ts'
import { userGone } from '../users.ts'
import { eventColumns } from './events.ts'
import { runRead, type Write } from './group-commit.ts'
import { oldSessions, pruneSessions, unusedSessions } from './retention.ts'
import { events, finishedRooms, idempotencyKeys, presences, sessions, webhookEvents } from './schema.ts'
import { type Db, param, unlessOrphan, values } from './sqlite.ts'

const { sessionId: _, ...presenceColumns } = getTableColumns(presences)

/** A user's sessions that have ended, or the others. The condition is a column of the index, which sorts each kind by id. */
const ofUser = (isUnfinished: 0 | 1) =>
  and(eq(sessions.userId, param('userId')), sql`(${sessions.endedAt} is null) = ${sql.raw(`${isUnfinished}`)}`)

/** Loads and saves sessions in SQLite; the rules are elsewhere (`lifecycle.ts`). */
export function sqliteSessions(
  db: Db,
  write: Write,
  hints: EventHints,
  durable: () => Promise<void>,
  clock: Clock,
): SessionStore {
  const { load, loadAll, save, insertSession, find, allUnfinished, unfinishedIn } = statements(db, hints, clock)
  const newestOf = (which?: SQL) => {
    const some = (isUnfinished: 0 | 1) =>
      db
        .select()
        .from(sessions)
        .where(and(ofUser(isUnfinished), which))
    return some(1).unionAll(some(0)).orderBy(desc(sessions.id)).limit(param('limit')).prepare()
  }
  const newest = newestOf()
  const older = newestOf(lt(sessions.id, param('before')))
  const toRemove = db
    .select({ id: sessions.id, room: sessions.room })
    .from(sessions)
    .where(and(isNotNull(sessions.endedAt), isNull(sessions.removedAt)))
    .orderBy(asc(sessions.endedAt))
    .prepare()
  const insertWebhook = db
    .insert(webhookEvents)
    .values({ id: param('id'), receivedAt: param('receivedAt') })
    .onConflictDoNothing()
    .returning({ id: webhookEvents.id })
    .prepare()
  const newestWebhook = db
    .select({ at: sql<number | null>`max(${webhookEvents.receivedAt})` })
    .from(webhookEvents)
    .prepare()

  /** Saves what a decision changes; false when a session has changed since it was loaded. */
  function carryOut<T>({ changed = [], opened }: Decision<T>): boolean {
    if (opened) insertSession(opened)
    return changed.every(save)
  }

  function changeIn<T>(which: Which, decide: (known: Known[]) => Decision<T>): T {
    if ('known' in which) {
      const decision = decide([which.known])
      // Only a save checks the version. A decision that saves nothing is made again on what is stored.
      if (decision.changed?.length && carryOut(decision)) return decision.result
    }
    const decision = decide(loadAll(which))
    if (!carryOut(decision)) throw new Error('A session changed within the transaction that had loaded it')
    return decision.result
  }

  return {
    change: (which, decide) => write(() => changeIn(which, decide)),
    changeOnce: (webhook, which, decide) =>
      write(() => {
        if (!insertWebhook.get({ ...webhook })) return null
        return which === null ? decide([]).result : changeIn(which, decide)
      }),
    find: (id) => runRead(() => find.get({ id }) ?? null),
    load: (id, key) => runRead(() => load(id, key)),
    listByUser: (userId, limit, before) =>
      runRead(() => (before === undefined ? newest.all({ userId, limit }) : older.all({ userId, limit, before }))),
    listUnfinished: (room) => runRead(() => (room === undefined ? allUnfinished.all() : unfinishedIn.all({ room }))),
    listToRemove: () => runRead(() => toRemove.all()),
    // Health asks for this: it has to notice a disk that does not answer.
    lastWebhookAt: () => durable().then(() => runRead(() => newestWebhook.get()?.at ?? null)),
    prune: (old, limit) =>
      write(() => {
        const webhooks = sql`select id from webhook_events where received_at < ${old.webhooks} limit ${limit}`
        const keys = sql`select rowid from idempotency_keys where created_at < ${old.keys} limit ${limit}`
        const refusals = sql`select rowid from agent_refusals where last_at < ${old.ended} limit ${limit}`
        return Math.max(
          db.run(sql`delete from agent_refusals where rowid in (${refusals})`).changes,
          db.run(sql`delete from webhook_events where id in (${webhooks})`).changes,
          db.run(sql`delete from idempotency_keys where rowid in (${keys})`).changes,
          pruneSessions(db, unusedSessions(old.unused), limit),
          pruneSessions(db, oldSessions(old.ended), limit),
        )
      }),
  }
}

type SessionColumns = ReturnType<typeof getTableColumns<typeof sessions>>
const columns = Object.entries(getTableColumns(sessions)) as Array<[keyof Session, SessionColumns[keyof Session]]>

/** Loads and saves a session with everything known about it. Synchronous: callers hold the transaction. */
function statements(db: Db, hints: EventHints, clock: Clock) {
  const byId = eq(sessions.id, param('id'))
  const find = db.select().from(sessions).where(byId).prepare()
  const oldestFirst = (which: SQL | undefined) =>
    db.select().from(sessions).where(which).orderBy(asc(sessions.id)).prepare()
  const isUnfinished = isNull(sessions.endedAt)
  const allUnfinished = oldestFirst(isUnfinished)
  const unfinishedOf = oldestFirst(ofUser(1))
  const unfinishedIn = oldestFirst(and(isUnfinished, eq(sessions.room, param('room'))))
  const presencesOf = db
    .select(presenceColumns)
    .from(presences)
    .where(eq(presences.sessionId, param('id')))
    .prepare()
  const finishedRoomsOf = db
    .select({ roomSid: finishedRooms.roomSid, finishedAt: finishedRooms.finishedAt })
    .from(finishedRooms)
    .where(eq(finishedRooms.sessionId, param('id')))
    .prepare()
  const findAnswered = db
    .select({ payloadHash: idempotencyKeys.payloadHash, event: eventColumns })
    .from(idempotencyKeys)
    .innerJoin(events, and(eq(events.sessionId, idempotencyKeys.sessionId), eq(events.seq, idempotencyKeys.seq)))
    .where(
      and(
        eq(idempotencyKeys.agentId, param('agentId')),
        eq(idempotencyKeys.sessionId, param('id')),
        eq(idempotencyKeys.key, param('key')),
      ),
    )
    .prepare()

  const insert = db
    .insert(sessions)
    .values(values(getTableColumns(sessions)))
    .prepare()
  const updateOf = (columns: Partial<SessionColumns>) =>
    db
      .update(sessions)
      .set(values(columns))
      .where(and(byId, eq(sessions.version, param('loadedVersion'))))
      .prepare()
  const updates = new Map<string, ReturnType<typeof updateOf>>()
  const savePresence = db
    .insert(presences)
    .values({ sessionId: param('sessionId'), ...values(presenceColumns) })
    .onConflictDoUpdate({ target: [presences.sessionId, presences.sid], set: values(presenceColumns) })
    .prepare()
  const forgetPresence = db
    .delete(presences)
    .where(and(eq(presences.sessionId, param('sessionId')), eq(presences.sid, param('sid'))))
    .prepare()
  const saveFinishedRoom = db
    .insert(finishedRooms)
    .values({ sessionId: param('sessionId'), roomSid: param('roomSid'), finishedAt: param('at') })
    .onConflictDoUpdate({
      target: [finishedRooms.sessionId, finishedRooms.roomSid],
      set: { finishedAt: sql`excluded.finished_at` },
    })
    .prepare()
  const forgetFinishedRoom = db
    .delete(finishedRooms)
    .where(and(eq(finishedRooms.sessionId, param('sessionId')), eq(finishedRooms.roomSid, param('roomSid'))))
    .prepare()
  const insertEvent = db
    .insert(events)
    .values({ sessionId: param('sessionId'), ...values(eventColumns) })
    .prepare()
  const insertKey = db
    .insert(idempotencyKeys)
    .values(values(getTableColumns(idempotencyKeys)))
    .prepare()

  const factsOf = ({ id, tokenExpiresAt, endReason }: Session): SessionFacts => ({
    tokenExpiresAt,
    end: endReason,
    presences: presencesOf.all({ id }),
    finishedRooms: new Map(finishedRoomsOf.all({ id }).map(({ roomSid, finishedAt }) => [roomSid, finishedAt])),
  })

  /** A decision about many looks at the facts of few, so these are read when asked for. Only inside the transaction. */
  function oneOfMany(session: Session): Known {
    let facts: SessionFacts | undefined
    return {
      session,
      get facts() {
        facts ??= factsOf(session)
        return facts
      },
      answered: null,
    }
  }

  function load(id: string, key?: IdempotencyKey | null): Known | null {
    const session = find.get({ id })
    if (!session) return null
    const found = key ? findAnswered.get({ id, agentId: key.agentId, key: key.key }) : undefined
    const answered = found ? { payloadHash: found.payloadHash, event: toEvent(found.event) } : null
    return { session, facts: factsOf(session), answered }
  }

  function loadAll(which: Which): Known[] {
    if ('unfinishedOf' in which) return unfinishedOf.all({ userId: which.unfinishedOf }).map(oneOfMany)
    if ('unfinishedIn' in which) return unfinishedIn.all({ room: which.unfinishedIn }).map(oneOfMany)
    const known = 'known' in which ? load(which.known.session.id) : load(which.session, which.key)
    return known ? [known] : []
  }

  /** Writes the changed columns only: SQLite rewrites every index of a column that is set, even to the same value. */
  function update(before: Session, after: Session): boolean {
    const changed = columns.filter(([name]) => before[name] !== after[name])
    const names = changed.map(([name]) => name).join()
    const known = updates.get(names) ?? updateOf(Object.fromEntries(changed))
    updates.set(names, known)
    return known.run({ ...after, loadedVersion: before.version }).changes > 0
  }

  /** False when the session has changed since it was loaded. */
  function save({ before, session, facts, events: added, key }: Changed): boolean {
    const sessionId = session.id
    if (!update(before.session, session)) return false
    savePresences(sessionId, before.facts, facts)
    for (const event of added) insertEvent.run({ ...event, sessionId, data: JSON.stringify(event.data) })
    if (added.length > 0) hints.appended(sessionId)
    if (key) insertKey.run({ ...key, sessionId, seq: session.lastSeq, createdAt: clock.steady() })
    return true
  }

  function savePresences(sessionId: string, before: SessionFacts, after: SessionFacts): void {
    const { presences, forgotten, finishedRooms, forgottenRooms } = factChanges(before, after)
    for (const presence of presences) savePresence.run({ ...presence, sessionId })
    for (const sid of forgotten) forgetPresence.run({ sessionId, sid })
    for (const [roomSid, at] of finishedRooms) saveFinishedRoom.run({ sessionId, roomSid, at })
    for (const roomSid of forgottenRooms) forgetFinishedRoom.run({ sessionId, roomSid })
  }

  function insertSession(session: Session): void {
    if (!unlessOrphan(() => insert.run({ ...session }))) throw userGone()
  }

  return { load, loadAll, save, insertSession, find, allUnfinished, unfinishedIn }
}
