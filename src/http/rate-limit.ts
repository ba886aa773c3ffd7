import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import type { Counter, Counters, Quota, Standing } from './counters.ts'
import type { AppEnv } from './router.ts'

/** The limits as configured; one that is off is undefined. */
export function createRateLimits(config: Config, counters: Counters) {
  const perMinute = (name: string, count: number) =>
    count === 0 ? undefined : counters({ name, count, windowSeconds: 60 })
  return {
    /** For limits that are not a setting. */
    counters,
    guests: counters({ name: 'guests', count: config.guestsPerAddressPerHour, windowSeconds: 60 * 60 }),
    /** Per address: registering and signing in. */
    signIns: perMinute('sign-ins', config.signInsPerAddressPerMinute),
    /** Per address: agents that fail to sign in. */
    agentSignIns: perMinute('agent-sign-ins', config.signInsPerAddressPerMinute),
    /** Per address. */
    refreshes: perMinute('refreshes', config.refreshesPerAddressPerMinute),
    /** Per user: join tokens and rooms. */
    userRequests: perMinute('user', config.requestsPerUserPerMinute),
    /** Per user: own sessions and profile. */
    userReads: perMinute('reads', config.readsPerUserPerMinute),
    /** Per agent: everything that agents do with their tokens. */
    agentRequests: perMinute('agent', config.requestsPerAgentPerMinute),
    /** Per agent: requests to call a phone. */
    agentCalls: counters({ name: 'calls', count: config.callsPerAgentPerHour, windowSeconds: 60 * 60 }),
  }
}

export type RateLimits = ReturnType<typeof createRateLimits>

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
  setRateLimitHeaders(c, limit.quota, standing)
  if (!standing.allowed) throw rateLimited(standing, 'Too many requests: try again later.')
}

/** Writes the RateLimit headers (draft-ietf-httpapi-ratelimit-headers-09 §3 and §4), one item per limit. */
export function setRateLimitHeaders<E extends AppEnv>(c: Context<E>, quota: Quota, standing: Standing): void {
  c.header('RateLimit-Policy', `"${quota.name}";q=${quota.count};w=${quota.windowSeconds}`, { append: true })
  c.header('RateLimit', `"${quota.name}";r=${standing.remaining};t=${standing.resetSeconds}`, { append: true })
}

export const rateLimited = ({ resetSeconds }: Standing, message: string) =>
  new AppError('rate_limited', message, { retryAfterSeconds: resetSeconds })
