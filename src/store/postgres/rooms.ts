import { sql } from 'drizzle-orm'
import type { RoomStore } from '../rooms.ts'
import { type Postgres, param, runOnce, statement } from './postgres.ts'
import { rooms, users } from './schema.ts'

/** Room claims in PostgreSQL. */
export function postgresRooms(db: Postgres): RoomStore {
  return {
    findOwner: async (name) => (await find.get(db, { name }))?.ownerId ?? null,
    async claim(name, ownerId, now, max) {
      const known = await find.get(db, { name })
      if (known) return { ownerId: known.ownerId, isNew: false }
      return db.transaction(async (on) => {
        // So that a user's simultaneous claims cannot both be the last one allowed.
        const locking = lockOwner.run(on, { ownerId })
        const [count] = await Promise.all([claims.get(on, { ownerId, max }), locking])
        if (count?.isFull) return null
        if ((await insert.run(on, { name, ownerId, now })) > 0) return { ownerId, isNew: true }
        const claimed = await find.get(on, { name })
        return claimed ? { ownerId: claimed.ownerId, isNew: false } : null
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

const find = statement<{ ownerId: string }>(
  'room',
  sql`select owner_id as "ownerId" from ${rooms} where name = ${param('name')}`,
)
const lockOwner = statement(
  'room_owner_lock',
  sql`select from ${users} where id = ${param('ownerId')} for no key update`,
)
const claims = statement<{ isFull: boolean }>(
  'room_claims',
  sql`select count(*) >= ${param('max')} as "isFull" from ${rooms} where owner_id = ${param('ownerId')} and is_claimed`,
)
const insert = statement(
  'room_claim',
  sql`insert into ${rooms} (name, owner_id, claimed_at, used_at)
    values (${param('name')}, ${param('ownerId')}, ${param('now')}, ${param('now')}) on conflict do nothing`,
)
const known = statement<{ name: string }>(
  'rooms_known',
  sql`select name from ${rooms} where name in (select json_array_elements_text(${param('names')}))`,
)
