import { and, asc, desc, eq, getTableColumns, gt, sql } from 'drizzle-orm'
import type { EventHints } from '../event-hints.ts'
import { type EventStore, MAX_PAGE_BYTES, toEvent } from '../sessions.ts'
import { createPacedReads, runRead } from './group-commit.ts'
import { events } from './schema.ts'
import { type Db, param } from './sqlite.ts'

const { sessionId: _, ...columns } = getTableColumns(events)
export const eventColumns = columns

/** An event's cost besides its data: many small ones take as long as a few large ones. */
const EVENT_OVERHEAD_BYTES = 256

/** Reads events from SQLite; they are written together with their session. */
export function sqliteEvents(db: Db, hints: EventHints, durable: () => Promise<void>): EventStore {
  const paced = createPacedReads(MAX_PAGE_BYTES / 2)
  const ofSession = eq(events.sessionId, param('sessionId'))
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
  const page = db
    .select(eventColumns)
    .from(events)
    .where(ofPage)
    .orderBy(asc(events.seq))
    .limit(param('limit'))
    .prepare()
  const last = db
    .select(eventColumns)
    .from(events)
    .where(ofSession)
    .orderBy(desc(events.seq))
    .limit(param('limit'))
    .prepare()

  /** A reader goes on from the last `seq` that it was shown, so a crash must not give that `seq` to another event. */
  async function durably<T>(read: Promise<T>): Promise<T> {
    const value = await read
    await durable()
    return value
  }

  return {
    page: (sessionId, after, limit) =>
      durably(
        paced(() => {
          const { count, cost } = fittingOf(pageSizes.all({ sessionId, after, limit }))
          return { cost, value: page.all({ sessionId, after, limit: count }).map(toEvent) }
        }),
      ),
    hasMore: (sessionId, after) => runRead(() => pageSizes.get({ sessionId, after, limit: 1 }) !== undefined),
    last: (sessionId, limit) =>
      durably(
        paced(() => {
          const { count, cost } = fittingOf(lastSizes.all({ sessionId, limit }))
          return { cost, value: last.all({ sessionId, limit: count }).map(toEvent).reverse() }
        }),
      ),
    subscribe: hints.subscribe,
  }
}

/** How many of the first events fit in a page, at least one, and what it costs to read them. */
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
