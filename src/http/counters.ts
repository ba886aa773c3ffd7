import { createHash, randomBytes } from 'node:crypto'
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'

/** So many in so long; `name` is what the RateLimit headers call it. */
export interface Quota {
  name: string
  count: number
  windowSeconds: number
}

/** How a key stands in its window. */
export interface Standing {
  /** False when this one was too many. */
  allowed: boolean
  remaining: number
  resetSeconds: number
}

/** Counts per key. */
export interface Counter {
  readonly quota: Quota
  /** Counts one more. */
  count(key: string): Promise<Standing>
  /** Takes one back that turned out not to count. */
  giveBack(key: string): Promise<void>
  /** Forgets what was counted so far. */
  reset(key: string): Promise<void>
}

export type Counters = (quota: Quota) => Counter

/** Keys that one counter tells apart; about 300 bytes each. */
const MAX_KEYS = 100_000
/** What is left for newcomers beyond that: memory stays bounded, and a flood neither frees nor blocks everybody. */
const SHARED_KEYS = 1024

/** Counters of this process. A key goes when its window ends. */
export function createCounters(maxKeys = MAX_KEYS, sharedKeys = SHARED_KEYS): Counters {
  const salt = randomBytes(16)
  return (quota) => {
    const limiter = new RateLimiterMemory({ points: quota.count, duration: quota.windowSeconds })
    let keys = 0

    // Hashed, so that a client's own words take no more room than others, and salted, so that nobody can choose its place.
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
