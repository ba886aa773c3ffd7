import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { hash, verify } from '@node-rs/argon2'
import pLimit from 'p-limit'
import { AppError } from '../errors.ts'

/** OWASP's argon2id setting: 19 MiB, two passes, one lane; about 70 ms. argon2id is the library's default algorithm. */
const COST = { memoryCost: 19456, timeCost: 2, parallelism: 1 }
const PHC_PREFIX = `$argon2id$v=19$m=${COST.memoryCost},t=${COST.timeCost},p=${COST.parallelism}$`
/** A hash that no password matches: checking against it takes as long as a real check. */
const DUMMY = `${PHC_PREFIX}${'A'.repeat(22)}$${'A'.repeat(43)}`

/** Hashing runs on libuv's four threads; one stays free for signing tokens and for files. */
const MAX_PARALLEL = Math.max(1, Math.min(availableParallelism(), 3))
/** Per running hash: about two seconds of waiting, after which it is better to tell the client to come back. */
const MAX_WAITING_EACH = 32

/** UTF-8 bytes; argon2 hashes all of them, without truncation. */
export const MAX_PASSWORD_BYTES = 1024
/** Characters (OWASP ASVS 6.2.1), so also at least as many bytes. */
export const MIN_PASSWORD_LENGTH = 8

const COMMON = new Set(
  readFileSync(new URL('./common-passwords.txt', import.meta.url), 'utf8')
    .replace(/^#.*$/gm, '')
    .trim()
    .split(/\s+/),
)

/** Whether this is one of the most used passwords (OWASP ASVS 6.2.4), ignoring case. */
export const isCommonPassword = (password: string): boolean => COMMON.has(password.toLowerCase())

export interface Passwords {
  /**
   * A PHC string.
   * @throws AppError `busy` when too many wait already
   */
  hash(password: string): Promise<string>
  /**
   * Without a stored hash it takes equally long and never matches. `rehashed` replaces a stored hash that was made with
   * other parameters.
   * @throws AppError `busy` when too many wait already
   */
  check(password: string, stored: string | null): Promise<{ matches: boolean; rehashed?: string }>
}

/** Hashing is the cheapest way to exhaust a server, so only `parallel` run at once and only `maxWaiting` wait. */
export function createPasswords(parallel = MAX_PARALLEL, maxWaiting = parallel * MAX_WAITING_EACH): Passwords {
  const limit = pLimit(parallel)
  async function inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (limit.activeCount + limit.pendingCount >= parallel + maxWaiting) {
      throw new AppError('busy', 'Too many sign-ins at once: try again in a moment.', { retryAfterSeconds: 1 })
    }
    return limit(work)
  }

  return {
    hash: (password) => inTurn(() => hash(password, COST)),
    check: (password, stored) =>
      inTurn(async () => {
        const matches = (await verify(stored ?? DUMMY, password)) && stored !== null
        if (!matches || stored.startsWith(PHC_PREFIX)) return { matches }
        return { matches, rehashed: await hash(password, COST) }
      }),
  }
}
