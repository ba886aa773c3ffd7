import { type SQL, sql } from 'drizzle-orm'
import type { PgTable } from 'drizzle-orm/pg-core'
import type { Connection } from './postgres.ts'
import { auditEntries, events, finishedRooms, idempotencyKeys, presences, sessions } from './schema.ts'
import { runOnce } from './statements.ts'

/** Tables with many rows per session; a cascade would delete them all in one long write. */
const PARTS = [events, auditEntries, idempotencyKeys, presences, finishedRooms]

/** Ended sessions whose participants have left the room, earliest end first. */
export const oldSessions = (endedBefore: number): SQL =>
  sql`select id from sessions where removed_at is not null and ended_at < ${endedBefore} order by ended_at`

/** Sessions never joined: their end is their only event. Someone may have joined after the end and been removed. */
export const unusedSessions = (endedBefore: number): SQL =>
  sql`select id from sessions where is_unused and ended_at < ${endedBefore} and removed_at < ${endedBefore}
    order by ended_at`

/** Deletes the first of these sessions, at most `limit` rows. */
export function pruneSessions(on: Connection, these: SQL, limit: number): Promise<number> {
  const first = sql`${these} limit ${limit}`
  return deleteInTurn(on, [...partsOf(first), [sessions, sql`id in (${first})`]], limit)
}

/** The rows of these sessions in `PARTS`. */
export const partsOf = (sessionIds: SQL): Kind[] => PARTS.map((part) => [part, sql`session_id in (${sessionIds})`])

/** Some rows of one table. */
export type Kind = [table: PgTable, where: SQL]

/**
 * Deletes kind by kind, at most `limit` rows in total. List dependent rows first, so that no cascade is long. Each kind
 * is a transaction of its own: what a crash leaves is deleted by the next call.
 */
export async function deleteInTurn(on: Connection, kinds: readonly Kind[], limit: number): Promise<number> {
  let deleted = 0
  for (const [table, where] of kinds) {
    if (deleted >= limit) break
    deleted += await deleteSome(on, table, where, limit - deleted)
  }
  return deleted
}

/** Skips rows that another transaction has locked: some versions of PostgreSQL would delete them as changed by it. */
export const deleteSome = (on: Connection, table: PgTable, where: SQL, limit: number): Promise<number> =>
  runOnce(
    on,
    sql`delete from ${table} where ctid = any(array(select ctid from ${table} where ${where} limit ${limit} for update skip locked))`,
  )
