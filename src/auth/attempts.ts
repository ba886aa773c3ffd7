import { createHash } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { Counters, Quota, Standing } from '../http/counters.ts'
import { rateLimited } from '../http/rate-limit.ts'

/** Failures that one address may have with one account. */
const PER_ADDRESS: Quota = { name: 'failed-sign-ins', count: 10, windowSeconds: 15 * 60 }
/** Failures of an account from all addresses together that it was not signed in from: 1,200 guesses a day. */
const PER_ACCOUNT: Quota = { name: 'failed-sign-ins-account', count: 50, windowSeconds: 60 * 60 }
/** Sign-ins whose address is remembered, the newest of the whole service. */
const MAX_KNOWN = 100_000

export interface Attempt {
  /** What the account is called, whether there is one or not. */
  account: string
  /** Of the client. */
  address: string
  /** Is told of every limit that counted this attempt. */
  tell: (quota: Quota, standing: Standing) => void
}

interface AttemptLimits {
  perAddress: Quota
  perAccount: Quota
}

/**
 * Lets people try to sign in, and stops guessing. A failure counts for the pair of account and address, and for the
 * account over all addresses, which stops guessing from many. An attacker can use up the second count, but not lock the
 * owner out by it: addresses that signed in to the account before have only the first, and it ends within the hour.
 */
export function createAttemptLimit(
  counters: Counters,
  { perAddress, perAccount }: AttemptLimits = { perAddress: PER_ADDRESS, perAccount: PER_ACCOUNT },
) {
  const pairs = counters(perAddress)
  // Their own, so that no flood from elsewhere can fill what owners depend on.
  const knownPairs = counters(perAddress)
  const accounts = counters(perAccount)
  const known = lastAdded(MAX_KNOWN)

  /** @throws AppError `rate_limited`, and whatever `signIn` throws; only `invalid_credentials` is a failure */
  return async function attempt<T>({ account, address, tell }: Attempt, signIn: () => Promise<T>): Promise<T> {
    // A hash: e-mails have no business in memory that outlives the request, and keys are short that way.
    const accountKey = createHash('sha256').update(account).digest('base64url')
    const pairKey = `${accountKey} ${address}`
    const isKnown = known.has(pairKey)
    const pair = isKnown ? knownPairs : pairs
    const forgive = () => (isKnown ? undefined : accounts.giveBack(accountKey))

    // Counted before, so that many at once are not more than many in turn; the account first, so that what it refuses
    // leaves nothing behind.
    if (!isKnown) await countOne(accounts, accountKey)
    await countOne(pair, pairKey).catch(async (error: unknown) => {
      await forgive()
      throw error
    })
    try {
      const signedIn = await signIn()
      known.add(pairKey)
      await pair.reset(pairKey)
      await forgive()
      return signedIn
    } catch (error) {
      if (!(error instanceof AppError && error.code === 'invalid_credentials')) {
        await pair.giveBack(pairKey)
        await forgive()
      }
      throw error
    }

    async function countOne(counter: ReturnType<Counters>, key: string): Promise<void> {
      const standing = await counter.count(key)
      tell(counter.quota, standing)
      if (!standing.allowed) throw rateLimited(standing, 'Too many failed sign-ins: try again later.')
    }
  }
}

/** A set that keeps what was added last. */
function lastAdded(max: number) {
  const keys = new Set<string>()
  return {
    has: (key: string) => keys.has(key),
    add(key: string) {
      keys.delete(key)
      keys.add(key)
      const [oldest] = keys
      if (keys.size > max && oldest !== undefined) keys.delete(oldest)
    },
  }
}
