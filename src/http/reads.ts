import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import { AppError } from '../errors.ts'
import type { Counter } from './counters.ts'
import { countRequest } from './rate-limit.ts'
import type { AppEnv } from './router.ts'

/** One user's concurrent reads, each until the client has received its answer: a browser's connections to one host. */
const MAX_UNDER_WAY = 6
/** Further reads that wait for those, in order. */
const MAX_WAITING = 60

interface Reader {
  underWay: number
  waiting: Array<() => void>
}

/** Limits one key's reads per minute, if configured, and its concurrent reads. Event streams have their own limit. */
export function createReadLimit<E extends AppEnv>(perMinute: Counter | undefined, keyOf: (c: Context<E>) => string) {
  const readers = new Map<string, Reader>()

  /** Resolves when the read may begin, to a function that ends it. */
  async function enter(key: string): Promise<() => void> {
    const reader = readers.get(key) ?? { underWay: 0, waiting: [] }
    readers.set(key, reader)
    if (reader.underWay < MAX_UNDER_WAY) reader.underWay++
    else if (reader.waiting.length < MAX_WAITING) await new Promise<void>((begin) => reader.waiting.push(begin))
    else
      throw new AppError('rate_limited', 'Too many requests at once: wait for earlier answers.', {
        retryAfterSeconds: 1,
      })
    let isOver = false
    return () => {
      if (isOver) return
      isOver = true
      const next = reader.waiting.shift()
      // Deferred, so that a long queue does not block the event loop.
      if (next) setImmediate(next)
      else if (--reader.underWay === 0) readers.delete(key)
    }
  }

  return createMiddleware<E>(async function limitReads(c, next) {
    const key = keyOf(c)
    await countRequest(c, perMinute, key)
    const leave = await enter(key)
    const { outgoing } = c.env ?? {}
    outgoing?.once('close', leave)
    try {
      await next()
    } finally {
      const isStream = c.res.headers.get('Content-Type') === 'text/event-stream'
      if (isStream) outgoing?.off('close', leave)
      if (!outgoing || outgoing.destroyed || isStream) leave()
    }
  })
}
