import { createHmac, hash } from 'node:crypto'
import { newSecret } from '../ids.ts'

const DAY_MS = 24 * 60 * 60 * 1000

/** An unused token expires after this; each refresh restarts the period. */
export const REFRESH_IDLE_MS = 30 * DAY_MS
/** A sign-in lasts at most this long, however often it is refreshed. */
export const REFRESH_ABSOLUTE_MS = 90 * DAY_MS
/** A client that lost the answer may present the same token again for this long. */
export const REFRESH_GRACE_MS = 10_000

/** The first token of a family: 32 random bytes, base64url. */
export const firstRefreshToken = newSecret

/**
 * The one child of a refresh token. The service can return it again without storing it, and only with `key` can it be
 * derived: a thief of a used token does not get its successors.
 */
export const childRefreshToken = (key: Buffer, parent: string): string =>
  createHmac('sha256', key).update(parent).digest('base64url')

/** The stored form of a token: SHA-256, hex. It needs no salt, since the token is 256 random bits. */
export const refreshTokenHash = (token: string): string => hash('sha256', token)
