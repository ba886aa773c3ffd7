import { hash } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { Counters, Quota, Standing } from '../http/counters.ts'
import { rateLimited } from '../http/rate-limit.ts'

/** Failures allowed for one account from one address. */
const PER_ADDRESS: Quota = { name: 'failed-sign-ins', count: 10, windowSeconds: 15 * 60 }
/** Failures allowed for one account from all addresses, after which new ones are refused: 1,200 guesses a day. */
const PER_ACCOUNT: Quota = { name: 'failed-sign-ins-account', count: 50, windowSeconds: 60 * 60 }
/** How long an address from which someone signed in is known for that account. */
const KNOWN: Quota = { name: 'signed-in-addresses', count: 1, windowSeconds: 90 * 24 * 60 * 60 }

export interface Attempt {
  /** The account's name, whether it exists or not. */
  account: string
  /** The client's address. */
  address: string
  /** Called for every limit that counted this attempt. */
  onStanding: (quota: Quota, standing: Standing) => void
}

interface AttemptLimits {
  perAddress: Quota
  perAccount: Quota
}

/**
 * Limits password guessing: a failure counts for the pair of account and address, and for the account over all addresses.
 * Using up the second cannot lock the owner out: it ends within the hour, and does not refuse addresses that signed in to
 * the account before. A failure from either kind of address gets the same answer: it must not tell which accounts exist.
 */
export function createAttemptLimit(
  counters: Counters,
  { perAddress, perAccount }: AttemptLimits = { perAddress: PER_ADDRESS, perAccount: PER_ACCOUNT },
) {
  const pairs = counters(perAddress)
  // Separate, so that a flood from elsewhere cannot fill the counters that owners depend on.
  const knownPairs = counters(perAddress)
  const accounts = counters(perAccount)
  const known = counters(KNOWN)

  /** @throws AppError `rate_limited`, and whatever `signIn` throws; only `invalid_credentials` is a failure */
  return async function attempt<T>({ account, address, onStanding }: Attempt, signIn: () => Promise<T>): Promise<T> {
    // Hashed: e-mails should not stay in memory beyond the request, and the keys stay short.
    const accountKey = hash('sha256', account, 'base64url')
    const pairKey = `${accountKey} ${address}`
    const isKnown = await known.isCounted(pairKey)
    const pair = isKnown ? knownPairs : pairs

    // Counted up front, so that parallel attempts gain nothing over sequential ones; the account first, so that an
    // attempt it refuses leaves no pair behind.
    const ofAccount = await accounts.count(accountKey)
    onStanding(accounts.quota, ofAccount)
    if (!ofAccount.allowed && !isKnown) throw tooMany(ofAccount)
    const ofPair = await pair.count(pairKey)
    if (ofAccount.allowed) onStanding(pair.quota, ofPair)
    try {
      if (!ofPair.allowed) throw tooMany(ofAccount.allowed ? ofPair : ofAccount)
      const signedIn = await signIn()
      await known.count(pairKey)
      await pair.reset(pairKey)
      if (ofAccount.allowed) await accounts.giveBack(accountKey)
      return signedIn
    } catch (error) {
      const isFailure = error instanceof AppError && error.code === 'invalid_credentials'
      if (isFailure && !ofAccount.allowed) throw tooMany(ofAccount)
      if (!isFailure) {
        // A count beyond the quota is not kept, so there is none to give back.
        if (ofAccount.allowed) await accounts.giveBack(accountKey)
        if (ofPair.allowed) await pair.giveBack(pairKey)
      }
      throw error
    }
  }
}

const tooMany = (standing: Standing) => rateLimited(standing, 'Too many failed sign-ins: try again later.')
