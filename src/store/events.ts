import { and, asc, desc, eq, gt, sql } from 'drizzle-orm'
import type { Clock } from '../clock.ts'
import type { Appended, EventStore, SessionEvent } from '../sessions/event-store.ts'
import type { AppendHints } from './append-hints.ts'
import type { Write } from './group-commit.ts'
import { reading } from './reading.ts'
import { events, idempotencyKeys, sessions } from './schema.ts'
import type { SessionFactsTable } from './session-facts.ts'
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
const MAX_PAGE_BYTES = 1024 * 1024

const toEvent = (row: EventRow): SessionEvent => ({ ...row, data: JSON.parse(row.data) })

/** Events and idempotency keys in SQLite. */
export function sqliteEvents(
  db: Db,
  write: Write,
  hints: AppendHints,
  facts: SessionFactsTable,
  clock: Clock,
): EventStore {
  const ofSession = eq(events.sessionId, param('sessionId'))
  const nextSeq = db
    .update(sessions)
    .set({ lastSeq: sql`${sessions.lastSeq} + 1` })
    .where(eq(sessions.id, param('sessionId')))
    .returning({ seq: sessions.lastSeq })
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
    append: ({ sessionId, agentId, type, data, idempotency }, rules) =>
      write((): Appended => {
        // Two requests with one key may both have found no answer yet: the second one sees the first one's here.
        const replay = idempotency && replayOf(agentId, sessionId, idempotency)
        if (replay) return replay
        const known = facts.load(sessionId)
        const admission = known ? facts.admission(known, rules) : 'ended'
        if (admission !== 'admitted') return { outcome: admission }
        const { seq } = nextSeq.get({ sessionId }) as { seq: number }
        const createdAt = clock.now()
        insert.run({ sessionId, seq, type, data: JSON.stringify(data), agentId, createdAt })
        if (idempotency) insertKey.run({ ...idempotency, agentId, sessionId, seq, createdAt: clock.steady() })
        hints.appended(sessionId)
        return { outcome: 'stored', event: { seq, type, data, agentId, createdAt } }
      }),
    findReplay: (agentId, sessionId, idempotency) => reading(() => replayOf(agentId, sessionId, idempotency)),
    page: (sessionId, after, limit) =>
      reading(() => {
        const fitting = countFitting(pageSizes.all({ sessionId, after, limit }))
        return page.all({ sessionId, after, limit: fitting }).map(toEvent)
      }),
    last: (sessionId, limit) =>
      reading(() => {
        const fitting = countFitting(lastSizes.all({ sessionId, limit }))
        return last.all({ sessionId, limit: fitting }).map(toEvent).reverse()
      }),
    subscribe: hints.subscribe,
    pruneKeys: (before, limit) =>
      write(() => {
        const old = sql`select rowid from idempotency_keys where created_at < ${before} limit ${limit}`
        return db.run(sql`delete from idempotency_keys where rowid in (${old})`).changes
      }),
  }
}

/** How many of the first ones are within the bytes of a page; one always is. */
function countFitting(sizes: Array<{ bytes: number }>): number {
  let total = 0
  const tooMany = sizes.findIndex(({ bytes }, index) => {
    total += bytes
    return total > MAX_PAGE_BYTES && index > 0
  })
  return tooMany < 0 ? sizes.length : tooMany
}
