import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'
import { AppError } from '../errors.ts'

const HOUR_SECONDS = 60 * 60

/**
 * Counts guests per client address; the returned function counts one more.
 * @throws AppError `rate_limited`, from the returned function
 */
export function guestLimit(perAddressPerHour: number): (address: string) => Promise<void> {
  const limiter = new RateLimiterMemory({ points: perAddressPerHour, duration: HOUR_SECONDS })
  return async (address) => {
    try {
      await limiter.consume(address)
    } catch (refused) {
      // The library rejects with its answer, not with an Error.
      if (!(refused instanceof RateLimiterRes)) throw refused
      throw new AppError('rate_limited', 'Too many guests from this address: try again later.', {
        retryAfterSeconds: Math.ceil(refused.msBeforeNext / 1000),
      })
    }
  }
}
