import { OperatorError } from '../errors.ts'
import type { StoredKey } from '../store/keys.ts'
import { JWKS_MAX_AGE_SECONDS } from './keys.ts'
import { ACCESS_TOKEN_SECONDS } from './tokens.ts'

/** The service sees a new key within a second; with some margin, by then every cached copy has it. */
const LEAD_MS = (JWKS_MAX_AGE_SECONDS + 10) * 1000
/** A token's lifetime, plus a minute of leeway that other verifiers may allow. */
const OUTLIVE_MS = (ACCESS_TOKEN_SECONDS + 60) * 1000

/**
 * Adds `next`, which signs once every cache of the published keys has it; the others expire with their last token.
 * @throws OperatorError while an earlier one has not begun to sign
 */
export function rotate(keys: StoredKey[], next: StoredKey, now: number): StoredKey[] {
  if (keys.length === 0) return [next]
  const waiting = keys.find(({ signsFrom }) => signsFrom > now)
  if (waiting) {
    const from = new Date(waiting.signsFrom).toISOString()
    throw new OperatorError(`A rotation is under way: the key ${waiting.kid} signs from ${from}.`)
  }
  const signsFrom = now + LEAD_MS
  const retired = keys.map((key) => ({ ...key, expiresAt: key.expiresAt ?? signsFrom + OUTLIVE_MS }))
  return [...retired, { ...next, signsFrom }]
}

/**
 * Removes that key, so that its tokens are refused. If it has not signed yet, the previous one stays.
 * @throws OperatorError for an unknown key, and for the one that signs
 */
export function remove(keys: StoredKey[], kid: string, now: number): StoredKey[] {
  const key = keys.find((known) => known.kid === kid)
  if (!key) throw new OperatorError(`No signing key has the id ${kid}.`)
  if (key === signing(keys, now)) {
    throw new OperatorError(`The key ${kid} is the one that signs. If it leaked, use rotate --now.`)
  }
  const rest = keys.filter((other) => other !== key)
  if (key.signsFrom <= now) return rest
  return rest.map((other) => (other === signing(keys, now) ? { ...other, expiresAt: null } : other))
}

type KeyState = 'next' | 'signing' | 'retired'

export function stateOf(key: StoredKey, keys: StoredKey[], now: number): KeyState {
  if (key === signing(keys, now)) return 'signing'
  return key.signsFrom > now ? 'next' : 'retired'
}

/** The newest key that may sign. */
function signing(keys: StoredKey[], now: number): StoredKey | undefined {
  const usable = keys.filter(({ signsFrom, expiresAt }) => signsFrom <= now && (expiresAt === null || expiresAt > now))
  return usable.sort((a, b) => b.signsFrom - a.signsFrom)[0]
}
