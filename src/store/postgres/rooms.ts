import { type SQL, sql } from 'drizzle-orm'
import { isGeneratedRoom } from '../../ids.ts'
import { RECENT_USE_MS, type RoomStore } from '../rooms.ts'
import { userGone } from '../users.ts'
import type { Postgres } from './postgres.ts'
import { rooms, sessions } from './schema.ts'
import { lockUser } from './sessions.ts'
import { param, runOnce, statement } from './statements.ts'

/** Room claims in PostgreSQL. */
export function postgresRooms(db: Postgres): RoomStore {
  const ownerOf = async (name: string) =>
    (await find.get(db, { name, isGenerated: isGeneratedRoom(name) }))?.ownerId ?? null
  return {
    findOwner: ownerOf,
    async keep(name, now) {
      const row = await keep.get(db, { name, now, recent: now - RECENT_USE_MS, isGenerated: isGeneratedRoom(name) })
      // Another instance may have renewed it during this statement, whose snapshot is older.
      return row?.ownerId ?? ownerOf(name)
    },
    async claim(name, ownerId, now, max) {
      const known = await ownerOf(name)
      if (known !== null) return { ownerId: known, isNew: false }
      return db.transaction(async (on) => {
        // So that a user's simultaneous claims cannot both be the last one allowed.
        const locking = lockUser.run(on, { userId: ownerId })
        const [count, owners] = await Promise.all([claims.get(on, { ownerId, max }), locking])
        if (owners === 0) throw userGone()
        if (count?.isFull) return null
        if ((await insert.run(on, { name, ownerId, now })) > 0) return { ownerId, isNew: true }
        // Another user's simultaneous claim came first.
        const claimed = await find.get(on, { name, isGenerated: false })
        return claimed?.ownerId ? { ownerId: claimed.ownerId, isNew: false } : null
      })
    },
    filterKnown: async (names) => (await known.all(db, { names: JSON.stringify(names) })).map(({ name }) => name),
    prune: (usedBefore, limit) =>
      runOnce(
        db,
        sql`delete from ${rooms} where name in (select name from ${rooms} where used_at < ${usedBefore} and not exists
          (select from sessions where sessions.room = rooms.name and sessions.ended_at is null) limit ${limit})
          and used_at < ${usedBefore}`,
      ),
  }
}

/** A generated name belongs to the user of its first session. */
const owner = (claim: SQL) => sql`select coalesce((select owner_id from ${claim}),
  (select user_id from ${sessions} where room = ${param('name')} and ${param('isGenerated')}::boolean
    order by id limit 1)) as "ownerId"`
const find = statement<{ ownerId: string | null }>('room_owner', owner(sql`${rooms} where name = ${param('name')}`))
const isRecent = sql`(used_at > ${param('recent')} and used_at <= ${param('now')})`
const keep = statement<{ ownerId: string | null }>(
  'room_keep',
  sql`with
    kept as (
      update ${rooms} set used_at = ${param('now')} where name = ${param('name')} and not ${isRecent}
      returning owner_id),
    held as (
      select owner_id from kept
      union all select owner_id from ${rooms} where name = ${param('name')} and ${isRecent})
    ${owner(sql`held`)}`,
)
const claims = statement<{ isFull: boolean }>(
  'room_claims',
  sql`select count(*) >= ${param('max')} as "isFull" from ${rooms} where owner_id = ${param('ownerId')}`,
)
const insert = statement(
  'room_claim',
  sql`insert into ${rooms} (name, owner_id, claimed_at, used_at)
    values (${param('name')}, ${param('ownerId')}, ${param('now')}, ${param('now')}) on conflict do nothing`,
)
const known = statement<{ name: string }>(
  'rooms_known',
  sql`with given as (select json_array_elements_text(${param('names')}) as name)
    select name from ${rooms} where name in (select name from given)
    union select room from ${sessions} where room in (select name from given)`,
)
