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
  | { outcome: 'rotated' | 'repeated'; userId: string }
  | { outcome: 'unknown' | 'expired' | 'revoked' | 'reused' }

/** Accounts and their refresh families. Times are milliseconds. Guests are users without an e-mail. */
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
  updatePasswordHash(id: string, passwordHash: string): Promise<void>

  /** Starts a refresh family and marks the user as seen, in one write. */
  insertFamily(family: NewFamily, now: number): Promise<void>
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
  /** Revokes the token's family, if the token is known. */
  revokeFamilyOf(hash: string, reason: string, now: number): Promise<void>

  /** Deletes guests last seen before `seenBefore`, with all their data: at most `limit` rows. Returns how many. */
  pruneGuests(seenBefore: number, limit: number): Promise<number>
  /** Deletes refresh families expired or revoked before these times, at most `limit` rows. Returns how many. */
  pruneFamilies(dead: { expiredBefore: number; revokedBefore: number }, limit: number): Promise<number>
}
