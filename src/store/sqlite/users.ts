import { and, eq, getTableColumns, gt, isNull, lt, type SQL, sql } from 'drizzle-orm'
import { RECENTLY_SEEN_MS, type RevokedReason, type Rotation, rotationOf, type UserStore } from '../users.ts'
import { runRead, type Write } from './group-commit.ts'
import { deleteInTurn, type Kind, partsOf } from './retention.ts'
import { refreshFamilies, refreshTokens, rooms, sessions, users } from './schema.ts'
import { type Db, param, values } from './sqlite.ts'

const { seenAt: _, ...columns } = getTableColumns(users)

/** Accounts and refresh families in SQLite. */
export function sqliteUsers(db: Db, write: Write): UserStore {
  const byId = eq(users.id, param('id'))
  const find = db.select(columns).from(users).where(byId).prepare()
  const findByEmail = db
    .select(columns)
    .from(users)
    .where(eq(users.email, param('email')))
    .prepare()
  const insert = db
    .insert(users)
    .values({ ...values(columns), seenAt: param('createdAt') })
    .onConflictDoNothing({ target: users.email })
    .returning({ id: users.id })
    .prepare()
  const upgrade = db
    .update(users)
    .set({
      email: sql`${param('email')}`,
      name: sql`coalesce(${param('name')}, ${users.name})`,
      passwordHash: sql`${param('passwordHash')}`,
    })
    .where(and(byId, isNull(users.email)))
    .returning({ id: users.id })
    .prepare()
  const setPassword = db
    .update(users)
    .set({ passwordHash: sql`${param('to')}` })
    .where(and(byId, eq(users.passwordHash, param('from'))))
    .returning({ id: users.id })
    .prepare()
  const markSeen = db
    .update(users)
    .set({ seenAt: sql`${param('now')}` })
    .where(and(byId, lt(users.seenAt, param('recent'))))
    .prepare()
  const seen = (id: string, now: number) => markSeen.run({ id, now, recent: now - RECENTLY_SEEN_MS })
  const families = familyStatements(db)

  function rotate(parentHash: string, childHash: string, now: number, idleMs: number, graceMs: number): Rotation {
    const parent = families.findToken.get({ hash: parentHash })
    const rotation = rotationOf(parent, families.findToken.get({ hash: childHash }), now, graceMs)
    if (rotation.outcome === 'reused') {
      families.revoke.run({ id: rotation.familyId, now, reason: 'reuse' satisfies RevokedReason })
    }
    if (rotation.outcome === 'rotated') {
      const { familyId, userId } = rotation
      const expiresAt = Math.min(now + idleMs, parent?.familyExpiresAt ?? 0)
      families.use.run({ hash: parentHash, now })
      families.insertToken.run({ hash: childHash, familyId, now, expiresAt })
      seen(userId, now)
    }
    return rotation
  }

  const revokeAll = (userId: string, now: number, reason: RevokedReason) =>
    families.revokeOf.run({ userId, now, reason }).changes

  return {
    insertUser: (user) => write(() => insert.get({ ...user }) !== undefined),
    upgradeGuest: (user, now) =>
      write(() => {
        // The transaction holds the write lock, so no other user can take the e-mail between these two.
        if (findByEmail.get({ email: user.email })) return 'email_taken'
        if (!upgrade.get({ ...user })) return 'not_a_guest'
        // Anyone who planted or kept a sign-in of the guest must not share the account (session fixation).
        revokeAll(user.id, now, 'upgraded')
        return 'upgraded'
      }),
    findUser: (id) => runRead(() => find.get({ id }) ?? null),
    findUserByEmail: (email) => runRead(() => findByEmail.get({ email }) ?? null),
    updatePasswordHash: ({ id, from, to, revoke }, now) =>
      write(() => {
        if (!setPassword.get({ id, from, to })) return false
        if (revoke) revokeAll(id, now, 'password_changed')
        return true
      }),
    isSignedIn: (id, userId, now) => runRead(() => families.active.get({ id, userId, now }) !== undefined),
    listSignIns: (userId, now) => runRead(() => families.allActive.all({ userId, now }).map(({ id }) => id)),
    insertFamily: ({ id, userId, expiresAt, first }, passwordHash, now) =>
      write(() => {
        if (find.get({ id: userId })?.passwordHash !== passwordHash) return false
        families.insert.run({ id, userId, now, expiresAt })
        families.insertToken.run({ hash: first.hash, familyId: id, now, expiresAt: first.expiresAt })
        seen(userId, now)
        return true
      }),
    rotate: (parentHash, childHash, now, { idleMs, graceMs }) =>
      write(() => rotate(parentHash, childHash, now, idleMs, graceMs)),
    revokeFamilyOf: (hash, now) =>
      write(() => {
        const token = families.findToken.get({ hash })
        if (!token) return null
        families.revoke.run({ id: token.familyId, now, reason: 'logout' satisfies RevokedReason })
        return token.userId
      }),
    revokeFamilies: (userId, now) => write(() => revokeAll(userId, now, 'signed_out')),
    pruneGuests: (seenBefore, limit) =>
      write(() => {
        // Guests with an unfinished session are spared: the service still has to track its presence.
        const idle = sql`select id from users indexed by users_idle_guests
          where email is null and seen_at < ${seenBefore} and not exists
            (select 1 from sessions where sessions.user_id = users.id and (sessions.ended_at is null) = 1)
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
      }),
    pruneFamilies: ({ expiredBefore, revokedBefore }, limit) =>
      write(() => {
        const dead = sql`select id from refresh_families
          where expires_at < ${expiredBefore} or revoked_at < ${revokedBefore} limit ${limit}`
        const kinds: Kind[] = [
          [refreshTokens, sql`family_id in (${dead})`],
          [refreshFamilies, sql`id in (${dead})`],
        ]
        return deleteInTurn(db, kinds, limit)
      }),
  }
}

function familyStatements(db: Db) {
  /** An already revoked family keeps its first reason. */
  const revoking = (which: SQL) =>
    db
      .update(refreshFamilies)
      .set({ revokedAt: sql`${param('now')}`, revokedReason: sql`${param('reason')}` })
      .where(and(which, isNull(refreshFamilies.revokedAt)))
      .prepare()
  const ofUser = eq(refreshFamilies.userId, param('userId'))
  const isActive = and(ofUser, isNull(refreshFamilies.revokedAt), gt(refreshFamilies.expiresAt, param('now')))
  const ids = () => db.select({ id: refreshFamilies.id }).from(refreshFamilies)
  return {
    insert: db
      .insert(refreshFamilies)
      .values({ id: param('id'), userId: param('userId'), createdAt: param('now'), expiresAt: param('expiresAt') })
      .prepare(),
    revoke: revoking(eq(refreshFamilies.id, param('id'))),
    revokeOf: revoking(ofUser),
    active: ids()
      .where(and(eq(refreshFamilies.id, param('id')), isActive))
      .prepare(),
    allActive: ids().where(isActive).prepare(),
    findToken: db
      .select({
        familyId: refreshTokens.familyId,
        expiresAt: refreshTokens.expiresAt,
        usedAt: refreshTokens.usedAt,
        userId: refreshFamilies.userId,
        familyExpiresAt: refreshFamilies.expiresAt,
        revokedAt: refreshFamilies.revokedAt,
      })
      .from(refreshTokens)
      .innerJoin(refreshFamilies, eq(refreshTokens.familyId, refreshFamilies.id))
      .where(eq(refreshTokens.hash, param('hash')))
      .prepare(),
    insertToken: db
      .insert(refreshTokens)
      .values({
        hash: param('hash'),
        familyId: param('familyId'),
        createdAt: param('now'),
        expiresAt: param('expiresAt'),
      })
      .prepare(),
    use: db
      .update(refreshTokens)
      .set({ usedAt: sql`${param('now')}` })
      .where(and(eq(refreshTokens.hash, param('hash')), isNull(refreshTokens.usedAt)))
      .prepare(),
  }
}
