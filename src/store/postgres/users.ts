import { type SQL, sql } from 'drizzle-orm'
import {
  RECENTLY_SEEN_MS,
  type RefreshToken,
  type RevokedReason,
  rotationOf,
  type User,
  type UserStore,
} from '../users.ts'
import { type Connection, isDuplicate, type Postgres } from './postgres.ts'
import { deleteInTurn, type Kind, partsOf } from './retention.ts'
import { refreshFamilies, refreshTokens, rooms, sessions, users } from './schema.ts'
import { param, selected, statement } from './statements.ts'

/** Accounts and refresh families in PostgreSQL. */
export function postgresUsers(db: Postgres): UserStore {
  const revokeAll = (on: Connection, userId: string, now: number, reason: RevokedReason) =>
    revokeOf.run(on, { userId, now, reason })

  return {
    insertUser: async (user) => (await insert.run(db, { ...user })) > 0,
    upgradeGuest: (user, now) =>
      db
        .transaction(async (on) => {
          const outcome = await upgrade.get(on, { ...user })
          if (!outcome?.isUpgraded) return outcome?.isTaken ? 'email_taken' : 'not_a_guest'
          // Anyone who planted or kept a sign-in of the guest must not share the account (session fixation).
          await revokeAll(on, user.id, now, 'upgraded')
          return 'upgraded'
        })
        .catch((error: unknown) => {
          if (isDuplicate(error)) return 'email_taken'
          throw error
        }),
    findUser: async (id) => (await find.get(db, { id })) ?? null,
    findUserByEmail: async (email) => (await findByEmail.get(db, { email })) ?? null,
    updatePasswordHash: ({ id, from, to, revoke }, now) =>
      db.transaction(async (on) => {
        if ((await setPassword.run(on, { id, from, to })) === 0) return false
        if (revoke) await revokeAll(on, id, now, 'password_changed')
        return true
      }),
    isSignedIn: async (id, userId, now) => (await active.get(db, { id, userId, now })) !== undefined,
    listSignIns: async (userId, now) => (await allActive.all(db, { userId, now })).map(({ id }) => id),
    insertFamily: async ({ id, userId, expiresAt, first }, passwordHash, now) => {
      const values = { id, userId, expiresAt, hash: first.hash, firstExpiresAt: first.expiresAt, passwordHash, now }
      return (await insertFamily.run(db, values)) > 0
    },
    rotate: (parentHash, childHash, now, { idleMs, graceMs }) =>
      db.transaction(async (on) => {
        const locking = lockFamily.run(on, { hash: parentHash })
        const [tokens] = await Promise.all([findTokens.all(on, { parentHash, childHash }), locking])
        const [parent, child] = [parentHash, childHash].map((hash) => tokens.find((token) => token.hash === hash))
        const rotation = rotationOf(parent, child, now, graceMs)
        if (rotation.outcome === 'reused') {
          await revoke.run(on, { id: rotation.familyId, now, reason: 'reuse' satisfies RevokedReason })
        }
        if (rotation.outcome === 'rotated') {
          const { familyId, userId } = rotation
          const expiresAt = Math.min(now + idleMs, parent?.familyExpiresAt ?? 0)
          const recent = now - RECENTLY_SEEN_MS
          await useToken.run(on, { parentHash, childHash, familyId, userId, now, recent, expiresAt })
        }
        return rotation
      }),
    async revokeFamilyOf(hash, now) {
      const [token] = await findTokens.all(db, { parentHash: hash, childHash: hash })
      if (!token) return null
      await revoke.run(db, { id: token.familyId, now, reason: 'logout' satisfies RevokedReason })
      return token.userId
    },
    revokeFamilies: (userId, now) => revokeAll(db, userId, now, 'signed_out'),
    pruneGuests(seenBefore, limit) {
      // Guests with an unfinished session are spared: the service still has to track its presence.
      const idle = sql`select id from users where email is null and seen_at < ${seenBefore} and not exists
          (select from sessions where sessions.user_id = users.id and sessions.ended_at is null)
        order by seen_at limit ${limit}`
      const families = sql`select id from refresh_families where user_id in (${idle})`
      const kinds: Kind[] = [
        [refreshTokens, sql`family_id in (${families})`],
        [refreshFamilies, sql`user_id in (${idle})`],
        ...partsOf(sql`select id from sessions where user_id in (${idle})`),
        [sessions, sql`user_id in (${idle})`],
        [rooms, sql`owner_id in (${idle})`],
        [users, sql`id in (${idle})`],
      ]
      return deleteInTurn(db, kinds, limit)
    },
    pruneFamilies({ expiredBefore, revokedBefore }, limit) {
      const dead = sql`select id from refresh_families
        where expires_at < ${expiredBefore} or revoked_at < ${revokedBefore} limit ${limit}`
      const kinds: Kind[] = [
        [refreshTokens, sql`family_id in (${dead})`],
        [refreshFamilies, sql`id in (${dead})`],
      ]
      return deleteInTurn(db, kinds, limit)
    },
  }
}

const select = sql`select ${selected(users, 'seenAt', 'sessionsVersion')} from ${users}`
const find = statement<User>('user', sql`${select} where id = ${param('id')}`)
const findByEmail = statement<User>('user_by_email', sql`${select} where email = ${param('email')}`)
const insert = statement(
  'user_insert',
  sql`insert into ${users} (id, email, name, password_hash, created_at, seen_at) values (${param('id')},
    ${param('email')}, ${param('name')}, ${param('passwordHash')}, ${param('createdAt')}, ${param('createdAt')})
    on conflict (email) do nothing`,
)
const upgrade = statement<{ isTaken: boolean; isUpgraded: boolean }>(
  'user_upgrade',
  sql`with taken as (select from ${users} where email = ${param('email')}),
    upgraded as (
      update ${users} set email = ${param('email')}, name = coalesce(${param('name')}, name),
        password_hash = ${param('passwordHash')}
      where id = ${param('id')} and email is null and not exists (select from taken) returning id)
    select exists (select from taken) as "isTaken", exists (select from upgraded) as "isUpgraded"`,
)
const setPassword = statement(
  'user_password',
  sql`update ${users} set password_hash = ${param('to')} where id = ${param('id')} and password_hash = ${param('from')}`,
)

const insertFamily = statement(
  'family_insert',
  sql`with seen as (
      update ${users} set seen_at = ${param('now')} where id = ${param('userId')}
        and password_hash is not distinct from ${param('passwordHash')}::text returning id),
    family as (
      insert into ${refreshFamilies} (id, user_id, created_at, expires_at)
      select ${param('id')}, id, ${param('now')}::bigint, ${param('expiresAt')}::bigint from seen returning id)
    insert into ${refreshTokens} (hash, family_id, created_at, expires_at)
    select ${param('hash')}, id, ${param('now')}::bigint, ${param('firstExpiresAt')}::bigint from family`,
)
/** An already revoked family keeps its first reason. */
const revoking = (name: string, which: SQL) =>
  statement(
    name,
    sql`update ${refreshFamilies} set revoked_at = ${param('now')}, revoked_reason = ${param('reason')}
      where ${which} and revoked_at is null`,
  )
const revoke = revoking('family_revoke', sql`id = ${param('id')}`)
const revokeOf = revoking('families_revoke', sql`user_id = ${param('userId')}`)
const isActive = sql`user_id = ${param('userId')} and revoked_at is null and expires_at > ${param('now')}`
const active = statement('family_active', sql`select from ${refreshFamilies} where id = ${param('id')} and ${isActive}`)
const allActive = statement<{ id: string }>('families_active', sql`select id from ${refreshFamilies} where ${isActive}`)

/** Serializes the rotations and revocations of a family. */
const lockFamily = statement(
  'family_lock',
  sql`select from ${refreshFamilies} where id = (select family_id from ${refreshTokens} where hash = ${param('hash')})
    for no key update`,
)
const findTokens = statement<RefreshToken & { hash: string }>(
  'refresh_tokens',
  sql`select hash, family_id as "familyId", token.expires_at as "expiresAt", used_at as "usedAt", user_id as "userId",
      family.expires_at as "familyExpiresAt", revoked_at as "revokedAt"
    from ${refreshTokens} as token join ${refreshFamilies} as family on family.id = family_id
    where hash in (${param('parentHash')}, ${param('childHash')})`,
)
const useToken = statement(
  'refresh_token_use',
  sql`with used as (update ${refreshTokens} set used_at = ${param('now')} where hash = ${param('parentHash')}),
    seen as (update ${users} set seen_at = ${param('now')} where id = ${param('userId')} and seen_at < ${param('recent')})
    insert into ${refreshTokens} (hash, family_id, created_at, expires_at)
    values (${param('childHash')}, ${param('familyId')}, ${param('now')}, ${param('expiresAt')})`,
)
