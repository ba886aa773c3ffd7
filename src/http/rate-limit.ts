import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { type Counter, type Counters, createCounters, type Quota, type Standing } from './counters.ts'
import type { AppEnv } from './router.ts'

/** The configurable limits; a limit that is off is undefined. */
export interface RateLimits {
  /** For limits that are not a setting. */
  counters: Counters
  guests: Counter
  /** Per address: registering and signing in. */
  signIns: Counter | undefined
  /** Per address: agents that fail to sign in. */
  agentSignIns: Counter | undefined
  /** Per address. */
  refreshes: Counter | undefined
  /** Per user: join tokens and rooms. */
  userRequests: Counter | undefined
  /** Per user: own sessions and profile. */
  userReads: Counter | undefined
  /** Per agent: everything that agents do with their tokens. */
  agentRequests: Counter | undefined
}

type RateSettings = Pick<
  Config,
  | 'guestsPerAddressPerHour'
  | 'signInsPerAddressPerMinute'
  | 'refreshesPerAddressPerMinute'
  | 'requestsPerUserPerMinute'
  | 'readsPerUserPerMinute'
  | 'requestsPerAgentPerMinute'
>

/** Creates the limits from the settings. */
export function createRateLimits(config: RateSettings): RateLimits {
  const counters = createCounters()
  const perMinute = (name: string, count: number) =>
    count === 0 ? undefined : counters({ name, count, windowSeconds: 60 })
  return {
    counters,
    guests: counters({ name: 'guests', count: config.guestsPerAddressPerHour, windowSeconds: 60 * 60 }),
    signIns: perMinute('sign-ins', config.signInsPerAddressPerMinute),
    agentSignIns: perMinute('agent-sign-ins', config.signInsPerAddressPerMinute),
    refreshes: perMinute('refreshes', config.refreshesPerAddressPerMinute),
    userRequests: perMinute('user', config.requestsPerUserPerMinute),
    userReads: perMinute('reads', config.readsPerUserPerMinute),
    agentRequests: perMinute('agent', config.requestsPerAgentPerMinute),
  }
}

/** Counts every request under its key, if there is a limit, and refuses those beyond it as `rate_limited`. */
export const limitRate = <E extends AppEnv>(limit: Counter | undefined, keyOf: (c: Context<E>) => string) =>
  createMiddleware<E>(async function limitRate(c, next) {
    await countRequest(c, limit, keyOf(c))
    await next()
  })

/** @throws AppError `rate_limited` when this request exceeds the limit, if there is one */
export async function countRequest<E extends AppEnv>(
  c: Context<E>,
  limit: Counter | undefined,
  key: string,
): Promise<void> {
  if (!limit) return
  const standing = await limit.count(key)
  tellStanding(c, limit.quota, standing)
  if (!standing.allowed) throw rateLimited(standing, 'Too many requests: try again later.')
}

/** Writes the RateLimit headers (draft-ietf-httpapi-ratelimit-headers-09 §3 and §4), one item per limit. */
export function tellStanding<E extends AppEnv>(c: Context<E>, quota: Quota, standing: Standing): void {
  c.header('RateLimit-Policy', `"${quota.name}";q=${quota.count};w=${quota.windowSeconds}`, { append: true })
  c.header('RateLimit', `"${quota.name}";r=${standing.remaining};t=${standing.resetSeconds}`, { append: true })
}

export const rateLimited = ({ resetSeconds }: Standing, message: string) =>
  new AppError('rate_limited', message, { retryAfterSeconds: resetSeconds })
