import { asc, count, eq, inArray, sql } from 'drizzle-orm'
import { isGeneratedRoom } from '../../ids.ts'
import { RECENT_USE_MS, type RoomStore } from '../rooms.ts'
import { userGone } from '../users.ts'
import { runRead, type Write } from './group-commit.ts'
import { rooms, sessions } from './schema.ts'
import { type Db, param, unlessOrphan } from './sqlite.ts'

/** SQLite limits the number of parameters in a statement. */
const NAMES_PER_QUERY = 500

/** Room claims in SQLite. */
export function sqliteRooms(db: Db, write: Write): RoomStore {
  const find = db
    .select({ ownerId: rooms.ownerId, usedAt: rooms.usedAt })
    .from(rooms)
    .where(eq(rooms.name, param('name')))
    .prepare()
  const use = db
    .update(rooms)
    .set({ usedAt: sql`${param('now')}` })
    .where(eq(rooms.name, param('name')))
    .returning({ ownerId: rooms.ownerId })
    .prepare()
  const findFirstUser = db
    .select({ userId: sessions.userId })
    .from(sessions)
    .where(eq(sessions.room, param('name')))
    .orderBy(asc(sessions.id))
    .limit(1)
    .prepare()
  const insert = db
    .insert(rooms)
    .values({ name: param('name'), ownerId: param('ownerId'), claimedAt: param('now'), usedAt: param('now') })
    .prepare()
  const claims = db
    .select({ count: count() })
    .from(rooms)
    .where(eq(rooms.ownerId, param('ownerId')))
    .prepare()
  const firstUserOf = (name: string) => (isGeneratedRoom(name) ? findFirstUser.get({ name })?.userId : undefined)
  const ownerOf = (name: string) => find.get({ name })?.ownerId ?? firstUserOf(name) ?? null
  return {
    findOwner: (name) => runRead(() => ownerOf(name)),
    async keep(name, now) {
      const claim = await runRead(() => find.get({ name }))
      if (claim && claim.usedAt > now - RECENT_USE_MS && claim.usedAt <= now) return claim.ownerId
      return write(() => use.get({ name, now })?.ownerId ?? firstUserOf(name) ?? null)
    },
    claim: (name, ownerId, now, max) =>
      write(() => {
        const known = ownerOf(name)
        if (known !== null) return { ownerId: known, isNew: false }
        if ((claims.get({ ownerId })?.count ?? 0) >= max) return null
        if (!unlessOrphan(() => insert.run({ name, ownerId, now }))) throw userGone()
        return { ownerId, isNew: true }
      }),
    filterKnown: (names) =>
      runRead(() => {
        const known = new Set<string>()
        for (let i = 0; i < names.length; i += NAMES_PER_QUERY) {
          const some = names.slice(i, i + NAMES_PER_QUERY)
          const claimed = db.select({ name: rooms.name }).from(rooms).where(inArray(rooms.name, some))
          const used = db.select({ name: sessions.room }).from(sessions).where(inArray(sessions.room, some))
          for (const { name } of claimed.union(used).all()) known.add(name)
        }
        return [...known]
      }),
    prune: (usedBefore, limit) =>
      write(() => {
        const idle = sql`select name from rooms where used_at < ${usedBefore} and not exists
          (select 1 from sessions where sessions.room = rooms.name and sessions.ended_at is null) limit ${limit}`
        return db.run(sql`delete from rooms where name in (${idle})`).changes
      }),
  }
}
