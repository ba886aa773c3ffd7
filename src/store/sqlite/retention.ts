import { type SQL, sql } from 'drizzle-orm'
import type { SQLiteTable } from 'drizzle-orm/sqlite-core'
import { auditEntries, events, finishedRooms, idempotencyKeys, presences, sessions } from './schema.ts'
import type { Db } from './sqlite.ts'

/** Tables with many rows per session; a cascade would delete them all in one long write. */
const PARTS = [events, auditEntries, idempotencyKeys, presences, finishedRooms]

/** Ended sessions whose participants have left the room, earliest end first. */
export const oldSessions = (endedBefore: number): SQL =>
  sql`select id from sessions where removed_at is not null and ended_at < ${endedBefore} order by ended_at`

/** Sessions never joined: their end is their only event. Someone may have joined after the end and been removed. */
export const unusedSessions = (endedBefore: number): SQL =>
  sql`select id from sessions where removed_at is not null and last_seq = 1 and ended_at < ${endedBefore}
    and removed_at < ${endedBefore} order by ended_at`

/** Deletes the first of these sessions, at most `limit` rows. Synchronous: callers hold the transaction. */
export function pruneSessions(db: Db, these: SQL, limit: number): number {
  const first = sql`${these} limit ${limit}`
  return deleteInTurn(db, [...partsOf(first), [sessions, sql`id in (${first})`]], limit)
}

/** The rows of these sessions in `PARTS`. */
export const partsOf = (sessionIds: SQL): Kind[] => PARTS.map((part) => [part, sql`session_id in (${sessionIds})`])

/** Some rows of one table. */
export type Kind = [table: SQLiteTable, where: SQL]

/** Deletes kind by kind, at most `limit` rows in total. List dependent rows first, so that no cascade is long. */
export function deleteInTurn(db: Db, kinds: readonly Kind[], limit: number): number {
  let deleted = 0
  for (const [table, where] of kinds) {
    if (deleted >= limit) break
    const rows = sql`select rowid from ${table} where ${where} limit ${limit - deleted}`
    deleted += db.run(sql`delete from ${table} where rowid in (${rows})`).changes
  }
  return deleted
}
