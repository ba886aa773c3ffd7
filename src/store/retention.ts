import { getTableName, type SQL, sql } from 'drizzle-orm'
import { auditEntries, events, idempotencyKeys, presences } from './schema.ts'
import type { Db } from './sqlite.ts'

/** What a session has many of; a cascade would delete all of it in one long write. */
const PARTS = [events, auditEntries, idempotencyKeys, presences]

/** Ended sessions that are out of their room, oldest first. */
export const oldSessions = (endedBefore: number): SQL =>
  sql`select id from sessions where removed_at is not null and ended_at < ${endedBefore} order by ended_at`

/** Those that nobody joined: their end is their only event. Somebody may have come to one after its end and been removed. */
export const unusedSessions = (endedBefore: number): SQL =>
  sql`select id from sessions where removed_at is not null and last_seq = 1 and ended_at < ${endedBefore}
    and removed_at < ${endedBefore} order by ended_at`

/** Deletes the first ones of these sessions, at most `limit` rows. Synchronous: callers hold the transaction. */
export const sessionPruner = (db: Db) =>
  function prune(these: SQL, limit: number): number {
    const first = sql`${these} limit ${limit}`
    const remove = (query: SQL) => db.run(query).changes
    let deleted = 0
    for (const part of PARTS) {
      const table = sql.identifier(getTableName(part))
      const rows = sql`select rowid from ${table} where session_id in (${first}) limit ${limit - deleted}`
      deleted += remove(sql`delete from ${table} where rowid in (${rows})`)
      if (deleted >= limit) return deleted
    }
    const bare = sql`select id from (${first}) limit ${limit - deleted}`
    return deleted + remove(sql`delete from sessions where id in (${bare})`)
  }
