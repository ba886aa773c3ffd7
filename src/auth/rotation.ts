import type { StoredKey } from '../store/keys.ts'
import { JWKS_MAX_AGE_SECONDS } from './keys.ts'
import { ACCESS_TOKEN_SECONDS } from './tokens.ts'

/** What the signing keys do not allow; told to the operator. */
class KeyError extends Error {
  readonly code: 'rotation_under_way' | 'key_not_found' | 'key_in_use'
  constructor(code: KeyError['code'], message: string) {
    super(message)
    this.name = 'KeyError'
    this.code = code
  }
}

/** The service sees a new key at most a second after it was stored: with some room, everybody's copy is that old then. */
const LEAD_MS = (JWKS_MAX_AGE_SECONDS + 10) * 1000
/** A token's life, and a minute of leeway that others may give it. */
const OUTLIVE_MS = (ACCESS_TOKEN_SECONDS + 60) * 1000

/**
 * Adds `next`, which signs once everybody who keeps our published keys has it; the others go when their last token is dead.
 * @throws KeyError `rotation_under_way` while an earlier one has not begun to sign
 */
export function rotate(keys: StoredKey[], next: StoredKey, now: number): StoredKey[] {
  if (keys.length === 0) return [next]
  const waiting = keys.find(({ signsFrom }) => signsFrom > now)
  if (waiting) {
    const from = new Date(waiting.signsFrom).toISOString()
    throw new KeyError('rotation_under_way', `The key ${waiting.kid} is to sign from ${from}: one rotation at a time.`)
  }
  const signsFrom = now + LEAD_MS
  const retired = keys.map((key) => ({ ...key, expiresAt: key.expiresAt ?? signsFrom + OUTLIVE_MS }))
  return [...retired, { ...next, signsFrom }]
}

/**
 * Without that key: its tokens are refused. Without one that has not signed yet, the one before it stays.
 * @throws KeyError `key_not_found`, or `key_in_use` for the key that signs
 */
export function remove(keys: StoredKey[], kid: string, now: number): StoredKey[] {
  const key = keys.find((known) => known.kid === kid)
  if (!key) throw new KeyError('key_not_found', `There is no signing key ${kid}.`)
  if (key === signing(keys, now)) {
    throw new KeyError('key_in_use', `The key ${kid} signs. If it has leaked: rotate --now.`)
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

/** The newest that may sign. */
function signing(keys: StoredKey[], now: number): StoredKey | undefined {
  const usable = keys.filter(({ signsFrom, expiresAt }) => signsFrom <= now && (expiresAt === null || expiresAt > now))
  return usable.sort((a, b) => b.signsFrom - a.signsFrom)[0]
}
