import { createHash, randomBytes } from 'node:crypto'

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
  /** Undoes one count. */
  giveBack(key: string): Promise<void>
  /** Resets the key's count. */
  reset(key: string): Promise<void>
}

export type Counters = (quota: Quota) => Counter

/** Distinct keys per counter; about 300 bytes each. */
const MAX_KEYS = 100_000
/** Buckets that further keys share: memory stays bounded, and a flood neither lifts the limit nor blocks everyone. */
const SHARED_KEYS = 1024

interface Window {
  count: number
  /** Of `performance.now`: setting the wall clock does not restart a window. */
  endsAt: number
}

/** Counters of this process, in fixed windows that begin with the first count of a key. */
export function createCounters(maxKeys = MAX_KEYS, sharedKeys = SHARED_KEYS): Counters {
  const salt = randomBytes(16)
  return (quota) => {
    const windowMs = quota.windowSeconds * 1000
    /** All are equally long, so they stand in the order in which they end. */
    const windows = new Map<string, Window>()

    function windowOf(key: string): Window {
      const now = performance.now()
      for (const [place, { endsAt }] of windows) {
        if (endsAt > now) break
        windows.delete(place)
      }
      // Hashed, so that a client's own words take no more room than others, and salted, so that no client can choose its place.
      const hash = createHash('sha256').update(salt).update(key).digest()
      const own = hash.toString('base64url')
      const place = windows.has(own) || windows.size < maxKeys ? own : `shared ${hash.readUInt16BE() % sharedKeys}`
      const window = windows.get(place) ?? { count: 0, endsAt: now + windowMs }
      windows.set(place, window)
      return window
    }

    return {
      quota,
      async count(key) {
        const window = windowOf(key)
        window.count += 1
        return {
          allowed: window.count <= quota.count,
          remaining: Math.max(0, quota.count - window.count),
          resetSeconds: Math.max(1, Math.ceil((window.endsAt - performance.now()) / 1000)),
        }
      },
      async giveBack(key) {
        const window = windowOf(key)
        window.count = Math.max(0, window.count - 1)
      },
      async reset(key) {
        windowOf(key).count = 0
      },
    }
  }
}
