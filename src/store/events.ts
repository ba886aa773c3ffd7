import { and, asc, desc, eq, gt, sql } from 'drizzle-orm'
import type { EventStore, SessionEvent } from '../sessions/store.ts'
import type { AppendHints } from './append-hints.ts'
import { reading } from './reading.ts'
import { events } from './schema.ts'
import { type Db, param } from './sqlite.ts'

interface EventRow extends Omit<SessionEvent, 'data'> {
  data: string
}

export const eventColumns = {
  seq: events.seq,
  type: events.type,
  data: events.data,
  agentId: events.agentId,
  createdAt: events.createdAt,
}

/** Events are up to 64 KiB each: what is read and sent at once has to end somewhere. */
const MAX_PAGE_BYTES = 1024 * 1024

export const toEvent = (row: EventRow): SessionEvent => ({ ...row, data: JSON.parse(row.data) })

/** Events in SQLite, to be read; they are written with their session. */
export function sqliteEvents(db: Db, hints: AppendHints): EventStore {
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

  return {
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
