import { type SQL, sql } from 'drizzle-orm'
import type { EventHints } from '../event-hints.ts'
import { type EventRow, type EventStore, MAX_PAGE_BYTES, toEvent } from '../sessions.ts'
import type { Postgres } from './postgres.ts'
import { events } from './schema.ts'
import { param, statement } from './statements.ts'

/** Reads events from PostgreSQL; they are written together with their session. */
export function postgresEvents(db: Postgres, hints: Pick<EventHints, 'subscribe'>): EventStore {
  return {
    page: async (sessionId, after, limit) => (await page.all(db, { sessionId, after, limit })).map(toEvent),
    hasMore: async (sessionId, after) => (await next.get(db, { sessionId, after })) !== undefined,
    last: async (sessionId, limit) => (await last.all(db, { sessionId, limit })).map(toEvent).reverse(),
    subscribe: hints.subscribe,
  }
}

/** As many of the first events as fit in a page, at least one. */
const fitting = (name: string, which: SQL, order: SQL) =>
  statement<EventRow>(
    name,
    sql`select seq, type, data, agent_id as "agentId", created_at as "createdAt" from (
      select *, row_number() over (order by ${order}) as number,
        sum(octet_length(data)) over (order by ${order} rows unbounded preceding) as bytes
      from (select * from ${events} where session_id = ${param('sessionId')} and ${which}
        order by ${order} limit ${param('limit')}) as listed) as counted
      where number = 1 or bytes <= ${sql.raw(String(MAX_PAGE_BYTES))} order by ${order}`,
  )
const page = fitting('events_page', sql`seq > ${param('after')}`, sql`seq`)
const last = fitting('events_last', sql`true`, sql`seq desc`)
const next = statement(
  'events_next',
  sql`select from ${events} where session_id = ${param('sessionId')} and seq > ${param('after')} limit 1`,
)
