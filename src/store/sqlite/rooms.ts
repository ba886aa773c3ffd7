import { and, count, eq, inArray, sql } from 'drizzle-orm'
import type { RoomStore } from '../rooms.ts'
import { runRead, type Write } from './group-commit.ts'
import { rooms } from './schema.ts'
import { type Db, param } from './sqlite.ts'

/** SQLite limits the number of parameters in a statement. */
const NAMES_PER_QUERY = 500

/** Room claims in SQLite. */
export function sqliteRooms(db: Db, write: Write): RoomStore {
  const find = db
    .select({ ownerId: rooms.ownerId })
    .from(rooms)
    .where(eq(rooms.name, param('name')))
    .prepare()
  const insert = db
    .insert(rooms)
    .values({ name: param('name'), ownerId: param('ownerId'), claimedAt: param('now'), usedAt: param('now') })
    .prepare()
  const claims = db
    .select({ count: count() })
    .from(rooms)
    .where(and(eq(rooms.ownerId, param('ownerId')), eq(rooms.isClaimed, true)))
    .prepare()
  return {
    findOwner: (name) => runRead(() => find.get({ name })?.ownerId ?? null),
    claim: (name, ownerId, now, max) =>
      write(() => {
        const known = find.get({ name })
        if (known) return { ownerId: known.ownerId, isNew: false }
        if ((claims.get({ ownerId })?.count ?? 0) >= max) return null
        insert.run({ name, ownerId, now })
        return { ownerId, isNew: true }
      }),
    filterKnown: (names) =>
      runRead(() => {
        const known: string[] = []
        for (let i = 0; i < names.length; i += NAMES_PER_QUERY) {
          const some = inArray(rooms.name, names.slice(i, i + NAMES_PER_QUERY))
          known.push(
            ...db
              .select({ name: rooms.name })
              .from(rooms)
              .where(some)
              .all()
              .map(({ name }) => name),
          )
        }
        return known
      }),
    prune: (usedBefore, limit) =>
      write(() => {
        const idle = sql`select name from rooms where used_at < ${usedBefore} and not exists
          (select 1 from sessions where sessions.room = rooms.name and sessions.ended_at is null) limit ${limit}`
        return db.run(sql`delete from rooms where name in (${idle})`).changes
      }),
  }
}
