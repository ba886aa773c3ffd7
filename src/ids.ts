import { randomBytes } from 'node:crypto'

/**
 * A new identifier: prefix, 48 bits of time, 128 random bits, in hex.
 * The time keeps new rows together in the index; the rest cannot be guessed (OWASP ASVS 11.5.1).
 */
export function newId(prefix: 'user' | 'sess' | 'fam', now: number): string {
  return `${prefix}_${now.toString(16).padStart(12, '0')}${randomBytes(16).toString('hex')}`
}

/** An unguessable room name: it does not reveal when or for whom it was generated. */
export const newRoomName = (): string => `room_${randomBytes(16).toString('hex')}`

/** The identity of one join of an agent: two workers of one account do not take each other's place in a room. */
export const newAgentIdentity = (agentId: string): string => `${agentId}#${randomBytes(8).toString('hex')}`

/** 32 random bytes, base64url: an agent's secret, or the first refresh token of a family. */
export const newSecret = (): string => randomBytes(32).toString('base64url')
