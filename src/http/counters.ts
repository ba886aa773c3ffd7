import { createHash, randomBytes } from 'node:crypto'
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'

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

/** In-memory counters. A key is dropped when its window ends. */
export function createCounters(maxKeys = MAX_KEYS, sharedKeys = SHARED_KEYS): Counters {
  const salt = randomBytes(16)
  return (quota) => {
    const limiter = new RateLimiterMemory({ points: quota.count, duration: quota.windowSeconds })
    let keys = 0

    // Hashed, so that long keys take no more memory; salted, so that a client cannot choose its bucket.
    async function place(key: string): Promise<string> {
      const hash = createHash('sha256').update(salt).update(key).digest()
      const own = hash.toString('base64url')
      if (keys < maxKeys || (await limiter.get(own)) !== null) return own
      return `shared ${hash.readUInt16BE() % sharedKeys}`
    }

    function noteKey({ isFirstInDuration }: RateLimiterRes): void {
      if (!isFirstInDuration) return
      keys += 1
      setTimeout(() => {
        keys -= 1
      }, quota.windowSeconds * 1000).unref()
    }

    return {
      quota,
      async count(key) {
        const { result, allowed } = await consume(limiter, await place(key))
        noteKey(result)
        return {
          allowed,
          remaining: result.remainingPoints,
          resetSeconds: Math.max(1, Math.ceil(result.msBeforeNext / 1000)),
        }
      },
      async giveBack(key) {
        noteKey(await limiter.reward(await place(key)))
      },
      async reset(key) {
        const at = await place(key)
        const counted = await limiter.get(at)
        if (counted) await limiter.reward(at, counted.consumedPoints)
      },
    }
  }
}

/** The library rejects with its answer, not with an Error. */
async function consume(limiter: RateLimiterMemory, key: string) {
  try {
    return { result: await limiter.consume(key), allowed: true }
  } catch (refused) {
    if (!(refused instanceof RateLimiterRes)) throw refused
    return { result: refused, allowed: false }
  }
}
