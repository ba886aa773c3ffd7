import { getTableName, type SQL, sql } from 'drizzle-orm'
import { auditEntries, events, idempotencyKeys, presences } from './schema.ts'
import type { Db } from './sqlite.ts'

/** What a session has many of; a cascade would delete all of it in one long write. */
const PARTS = [events, auditEntries, idempotencyKeys, presences]

/** Deletes what ended before and is out of its room, oldest first, at most `limit` rows. Synchronous: callers hold the transaction. */
export const endedSessionPruner = (db: Db) =>
  function pruneEnded(endedBefore: number, limit: number): number {
    const oldest = sql`select id from sessions where removed_at is not null and ended_at < ${endedBefore}
      order by ended_at limit ${limit}`
    const remove = (query: SQL) => db.run(query).changes
    let deleted = 0
    for (const part of PARTS) {
      const table = sql.identifier(getTableName(part))
      const rows = sql`select rowid from ${table} where session_id in (${oldest}) limit ${limit - deleted}`
      deleted += remove(sql`delete from ${table} where rowid in (${rows})`)
      if (deleted >= limit) return deleted
    }
    const bare = sql`select id from (${oldest}) limit ${limit - deleted}`
    return deleted + remove(sql`delete from sessions where id in (${bare})`)
  }
