import { randomBytes, randomFillSync } from 'node:crypto'

/**
 * A new identifier: prefix, 48 bits of time, 128 random bits, in hex.
 * The time keeps new rows together in the index; the rest cannot be guessed (OWASP ASVS 11.5.1).
 */
export function newId(prefix: 'user' | 'sess' | 'fam' | 'room', now: number): string {
  return `${prefix}_${now.toString(16).padStart(12, '0')}${randomHex(16)}`
}

/** Whether a room name has the form of generated ones, with the time or, from earlier versions, without. */
export const isGeneratedRoom = (name: string): boolean => /^room_(?:[0-9a-f]{12})?[0-9a-f]{32}$/.test(name)

/** The identity of one join of an agent: two workers of one account do not take each other's place in a room. */
export const newAgentIdentity = (agentId: string): string => `${agentId}#${randomHex(8)}`

/** 32 random bytes, base64url: an agent's secret, or the first refresh token of a family. */
export const newSecret = (): string => randomBytes(32).toString('base64url')

/** Random bytes are drawn many at a time: each draw takes longer than everything else about an id. */
const POOL = Buffer.alloc(4096)
let drawn = POOL.length

function randomHex(bytes: number): string {
  if (drawn + bytes > POOL.length) {
    randomFillSync(POOL)
    drawn = 0
  }
  drawn += bytes
  return POOL.toString('hex', drawn - bytes, drawn)
}
