export interface TokenCache<V extends object> {
  set(token: string, value: V): void
  get(token: string): V | undefined
}

/** Tokens in each of two generations. */
const GENERATION = 4096

/**
 * What was established about the tokens used lately. The key is the whole token, not a hash or a part, so no other token
 * can stand for it. However many tokens an attacker holds, a dropped one only costs its verification again.
 */
export function createTokenCache<V extends object>(): TokenCache<V> {
  let young = new Map<string, V>()
  let old = new Map<string, V>()

  function set(token: string, value: V): void {
    if (young.size === GENERATION) {
      old = young
      young = new Map()
    }
    young.set(token, value)
  }

  return {
    set,
    get(token) {
      const value = young.get(token)
      if (value) return value
      // One in use moves on to the next generation; the others are dropped with theirs.
      const older = old.get(token)
      if (older) set(token, older)
      return older
    },
  }
}
