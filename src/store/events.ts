import { and, asc, desc, eq, gt, or, sql } from 'drizzle-orm'
import type { Appended, EventStore, SessionEvent } from '../sessions/event-store.ts'
import type { AppendHints } from './append-hints.ts'
import type { Write } from './group-commit.ts'
import { reading, readingInTurns } from './reading.ts'
import { events, idempotencyKeys, sessions } from './schema.ts'
import { type Db, param } from './sqlite.ts'

interface EventRow extends Omit<SessionEvent, 'data'> {
  data: string
}

const columns = {
  seq: events.seq,
  type: events.type,
  data: events.data,
  agentId: events.agentId,
  createdAt: events.createdAt,
}

/** Events are up to 64 KiB each: what is read and sent at once has to end somewhere. */
const MAX_PAGE_BYTES = 256 * 1024
/** What an event costs beside its data: many small ones take as long as a few large ones. */
const EVENT_OVERHEAD_BYTES = 256

const toEvent = (row: EventRow): SessionEvent => ({ ...row, data: JSON.parse(row.data) })

/** Events and idempotency keys in SQLite. */
export function sqliteEvents(db: Db, write: Write, hints: AppendHints): EventStore {
  const inTurn = readingInTurns(MAX_PAGE_BYTES / 2)
  const ofSession = eq(events.sessionId, param('sessionId'))
  const nextSeq = db
    .update(sessions)
    .set({ lastSeq: sql`${sessions.lastSeq} + 1` })
    .where(
      and(
        eq(sessions.id, param('sessionId')),
        or(
          eq(sessions.status, 'live'),
          and(eq(sql`1`, param('afterLeft')), or(eq(sessions.status, 'disconnected'), eq(sessions.endReason, 'left'))),
        ),
      ),
    )
    .returning({ seq: sessions.lastSeq })
    .prepare()
  const endedAt = db
    .select({ at: sessions.endedAt })
    .from(sessions)
    .where(eq(sessions.id, param('sessionId')))
    .prepare()
  const insert = db
    .insert(events)
    .values({
      sessionId: param('sessionId'),
      seq: param('seq'),
      type: param('type'),
      data: param('data'),
      agentId: param('agentId'),
      createdAt: param('createdAt'),
    })
    .prepare()
  const insertKey = db
    .insert(idempotencyKeys)
    .values({
      agentId: param('agentId'),
      sessionId: param('sessionId'),
      key: param('key'),
      payloadHash: param('payloadHash'),
      seq: param('seq'),
      createdAt: param('createdAt'),
    })
    .prepare()
  const findKey = db
    .select({ payloadHash: idempotencyKeys.payloadHash, event: columns })
    .from(idempotencyKeys)
    .innerJoin(events, and(eq(events.sessionId, idempotencyKeys.sessionId), eq(events.seq, idempotencyKeys.seq)))
    .where(
      and(
        eq(idempotencyKeys.agentId, param('agentId')),
        eq(idempotencyKeys.sessionId, param('sessionId')),
        eq(idempotencyKeys.key, param('key')),
      ),
    )
    .prepare()
  const ofPage = and(ofSession, gt(events.seq, param('after')))
  const bytes = { bytes: sql<number>`octet_length(${events.data})` }
  const pageSizes = db.select(bytes).from(events).where(ofPage).orderBy(asc(events.seq)).limit(param('limit')).prepare()
  const lastSizes = db
    .select(bytes)
    .from(events)
    .where(ofSession)
    .orderBy(desc(events.seq))
    .limit(param('limit'))
    .prepare()
  const page = db.select(columns).from(events).where(ofPage).orderBy(asc(events.seq)).limit(param('limit')).prepare()
  const last = db
    .select(columns)
    .from(events)
    .where(ofSession)
    .orderBy(desc(events.seq))
    .limit(param('limit'))
    .prepare()

  const replayOf: (...args: Parameters<EventStore['findReplay']>) => Awaited<ReturnType<EventStore['findReplay']>> = (
    agentId,
    sessionId,
    { key, payloadHash },
  ) => {
    const known = findKey.get({ agentId, sessionId, key })
    if (!known) return null
    if (known.payloadHash !== payloadHash) return { outcome: 'key_reused' }
    return { outcome: 'replayed', event: toEvent(known.event) }
  }

  return {
    append: ({ sessionId, agentId, type, data, createdAt, idempotency, afterLeft = false }) =>
      write((): Appended => {
        // Two requests with one key may both have found no answer yet: the second one sees the first one's here.
        const replay = idempotency && replayOf(agentId, sessionId, idempotency)
        if (replay) return replay
        const next = nextSeq.get({ sessionId, afterLeft: afterLeft ? 1 : 0 })
        if (!next) return { outcome: endedAt.get({ sessionId })?.at ? 'ended' : 'not_live' }
        const { seq } = next
        insert.run({ sessionId, seq, type, data: JSON.stringify(data), agentId, createdAt })
        if (idempotency) insertKey.run({ ...idempotency, agentId, sessionId, seq, createdAt })
        hints.appended(sessionId)
        return { outcome: 'stored', event: { seq, type, data, agentId, createdAt } }
      }),
    findReplay: (agentId, sessionId, idempotency) => reading(() => replayOf(agentId, sessionId, idempotency)),
    page: (sessionId, after, limit) =>
      inTurn(() => {
        const { count, cost } = fittingOf(pageSizes.all({ sessionId, after, limit }))
        return { cost, value: page.all({ sessionId, after, limit: count }).map(toEvent) }
      }),
    hasMore: (sessionId, after) => reading(() => pageSizes.get({ sessionId, after, limit: 1 }) !== undefined),
    last: (sessionId, limit) =>
      inTurn(() => {
        const { count, cost } = fittingOf(lastSizes.all({ sessionId, limit }))
        return { cost, value: last.all({ sessionId, limit: count }).map(toEvent).reverse() }
      }),
    subscribe: hints.subscribe,
    pruneKeys: (before, limit) =>
      write(() => {
        const old = sql`select rowid from idempotency_keys where created_at < ${before} limit ${limit}`
        return db.run(sql`delete from idempotency_keys where rowid in (${old})`).changes
      }),
  }
}

/** The first ones that are within the bytes of a page, one at least, and what it costs to read them. */
function fittingOf(sizes: Array<{ bytes: number }>): { count: number; cost: number } {
  let bytes = 0
  let count = 0
  for (const size of sizes) {
    if (count > 0 && bytes + size.bytes > MAX_PAGE_BYTES) break
    bytes += size.bytes
    count++
  }
  return { count, cost: bytes + count * EVENT_OVERHEAD_BYTES }
}
