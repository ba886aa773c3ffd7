import { AppError } from '../errors.ts'

/** Also the answer to a write for a user who was deleted meanwhile, such as by retention. */
export const userGone = () => new AppError('invalid_token', 'The user of this access token no longer exists.')

export interface User {
  id: string
  /** Lower case; null for a guest. */
  email: string | null
  name: string | null
  /** PHC string; null for a guest. */
  passwordHash: string | null
  createdAt: number
}

interface NewRefreshToken {
  /** SHA-256 of the token, hex. */
  hash: string
  /** Milliseconds; idle expiry, never later than the family's. */
  expiresAt: number
}

interface NewFamily {
  id: string
  userId: string
  expiresAt: number
  first: NewRefreshToken
}

/** The outcome for a presented refresh token. `repeated`: a retry after a lost answer may get the same child again. */
export type Rotation =
  | { outcome: 'rotated' | 'repeated' | 'reused'; userId: string; familyId: string }
  | { outcome: 'revoked'; userId: string }
  | { outcome: 'unknown' | 'expired' }

/** A refresh token as it is stored, with what decides of its family. */
export interface RefreshToken {
  familyId: string
  userId: string
  expiresAt: number
  usedAt: number | null
  familyExpiresAt: number
  revokedAt: number | null
}

/** What presenting a refresh token does; `reused` outside the grace period also revokes the family. */
export function rotationOf(
  parent: RefreshToken | undefined,
  child: RefreshToken | undefined,
  now: number,
  graceMs: number,
): Rotation {
  if (!parent) return { outcome: 'unknown' }
  const { familyId, userId } = parent
  if (parent.revokedAt !== null) return { outcome: 'revoked', userId }
  if (parent.familyExpiresAt <= now) return { outcome: 'expired' }
  if (parent.usedAt !== null) {
    const isRetry = now - parent.usedAt <= graceMs && child?.usedAt === null
    return isRetry ? { outcome: 'repeated', userId, familyId } : { outcome: 'reused', userId, familyId }
  }
  return parent.expiresAt <= now ? { outcome: 'expired' } : { outcome: 'rotated', userId, familyId }
}

/** Milliseconds. A refresh leaves a `seenAt` that is younger than this, so the user may have been seen this much later. */
export const RECENTLY_SEEN_MS = 60 * 60 * 1000

/** Why a refresh family was revoked. */
export type RevokedReason = 'logout' | 'reuse' | 'upgraded' | 'password_changed' | 'signed_out'

/**
 * Accounts and their refresh families; a family is one sign-in, and its id the `sid` of its access tokens. Times are
 * milliseconds. Guests are users without an e-mail.
 */
export interface UserStore {
  /** False when the e-mail is taken. */
  insertUser(user: User): Promise<boolean>
  /** Gives a guest an e-mail and password, keeping its id, and revokes its families in the same write. */
  upgradeGuest(
    user: { id: string; email: string; name: string | null; passwordHash: string },
    now: number,
  ): Promise<'upgraded' | 'email_taken' | 'not_a_guest'>
  findUser(id: string): Promise<User | null>
  findUserByEmail(email: string): Promise<User | null>
  /**
   * Compare-and-swap on the password hash; `revoke` also ends all sign-ins, in the same write. False when the hash is
   * no longer `from`.
   */
  updatePasswordHash(change: { id: string; from: string; to: string; revoke: boolean }, now: number): Promise<boolean>

  /**
   * Starts a refresh family and marks the user as seen, in one write. False when the user's password hash is no longer
   * `passwordHash`: the password that was checked may have been changed since.
   */
  insertFamily(family: NewFamily, passwordHash: string | null, now: number): Promise<boolean>
  /** Whether that sign-in of that user has neither expired nor been revoked: one read by primary key. */
  isSignedIn(familyId: string, userId: string, now: number): Promise<boolean>
  /** The user's sign-ins that have neither expired nor been revoked. */
  listSignIns(userId: string, now: number): Promise<string[]>
  /**
   * Compare-and-swap: marks `parentHash` as used and stores the child, or says why not. Reuse outside the grace period
   * revokes the family in the same write. `idleMs` bounds the child's life, the family's expiry bounds both.
   */
  rotate(
    parentHash: string,
    childHash: string,
    now: number,
    limits: { idleMs: number; graceMs: number },
  ): Promise<Rotation>
  /** Revokes the token's family. Returns whose it is; null if the token is unknown. */
  revokeFamilyOf(hash: string, now: number): Promise<string | null>
  /** Revokes all of the user's families. Returns how many. */
  revokeFamilies(userId: string, now: number): Promise<number>

  /** Deletes guests last seen before `seenBefore`, with all their data: at most `limit` rows. Returns how many. */
  pruneGuests(seenBefore: number, limit: number): Promise<number>
  /** Deletes refresh families expired or revoked before these times, at most `limit` rows. Returns how many. */
  pruneFamilies(dead: { expiredBefore: number; revokedBefore: number }, limit: number): Promise<number>
}
