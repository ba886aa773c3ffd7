import { hash } from 'node:crypto'

/** At most `count` per window; `name` appears in the RateLimit headers. */
export interface Quota {
  name: string
  count: number
  windowSeconds: number
}

/** How a key stands in its window. */
export interface Standing {
  /** False when this one exceeded the quota. */
  allowed: boolean
  remaining: number
  resetSeconds: number
}

/** Counts per key. */
export interface Counter {
  readonly quota: Quota
  /** Counts one more. */
  count(key: string): Promise<Standing>
  /** Whether the key has a count in a window that has not ended. */
  isCounted(key: string): Promise<boolean>
  /** Undoes one count. */
  giveBack(key: string): Promise<void>
  /** Resets the key's count. */
  reset(key: string): Promise<void>
}

export type Counters = (quota: Quota) => Counter

/** Distinct keys per counter; about 250 bytes each. */
const MAX_KEYS = 100_000
/** Characters; a longer key is hashed, so that one from a client takes no more room than another. */
const MAX_KEY = 64
/** Keys drawn at random, of which the least-counted one is forgotten. */
const DRAWN = 16

interface Window {
  key: string
  /** Where it is in the list of all. */
  index: number
  /** At most one beyond the quota. */
  count: number
  /** By `performance.now`: setting the wall clock does not restart a window. */
  endsAt: number
}

/**
 * Counters of this process, in fixed windows that begin with the first count of a key. When there are too many keys, a
 * little-counted one makes way: a flood of keys lets others in, and frees none that has reached its quota.
 */
export function createCounters(maxKeys = MAX_KEYS): Counters {
  return (quota) => {
    const windows = new Map<string, Window>()
    const all: Window[] = []

    const idOf = (name: string) => (name.length <= MAX_KEY ? name : `#${hash('sha256', name, 'base64url')}`)

    function forget({ key, index }: Window): void {
      windows.delete(key)
      const last = all.pop()
      if (!last || last.key === key) return
      last.index = index
      all[index] = last
    }

    /**
     * Forgets one of a few keys drawn at random: an ended one, or the least-counted when there are too many. Taking the
     * oldest from the Map instead would be slow: V8 skips every deleted entry in front of it.
     */
    function makeWay(now: number): void {
      const rank = ({ count, endsAt }: Window) => (endsAt > now ? count : 0)
      const drawn = Array.from({ length: DRAWN }, () => all[Math.floor(Math.random() * all.length)] as Window)
      const least = drawn.reduce((a, b) => (rank(b) < rank(a) ? b : a))
      if (all.length >= maxKeys || rank(least) === 0) forget(least)
    }

    function change(name: string, by: number): Window {
      const now = performance.now()
      const key = idOf(name)
      const known = windows.get(key)
      if (known && known.endsAt > now) {
        known.count = Math.max(0, Math.min(known.count + by, quota.count + 1))
        if (known.count === 0) forget(known)
        return known
      }
      if (known) forget(known)
      if (by > 0 && all.length > 0) makeWay(now)
      const window = { key, index: all.length, count: Math.max(0, by), endsAt: now + quota.windowSeconds * 1000 }
      if (by > 0) {
        all.push(window)
        windows.set(key, window)
      }
      return window
    }

    return {
      quota,
      async count(key) {
        const { count, endsAt } = change(key, 1)
        return {
          allowed: count <= quota.count,
          remaining: Math.max(0, quota.count - count),
          resetSeconds: Math.max(1, Math.ceil((endsAt - performance.now()) / 1000)),
        }
      },
      async isCounted(key) {
        const window = windows.get(idOf(key))
        return window !== undefined && window.endsAt > performance.now()
      },
      giveBack: async (key) => void change(key, -1),
      reset: async (key) => void change(key, -quota.count - 1),
    }
  }
}
