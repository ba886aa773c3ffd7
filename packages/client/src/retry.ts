import { ProblemError } from './problem.ts'

/** Where the clients take time from; replaced in tests. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now: () => number
  /** Resolves after that many milliseconds; rejects with the signal's reason as soon as it is aborted. */
  wait: (ms: number, signal?: AbortSignal) => Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  wait: (ms, signal) =>
    new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer)
        reject(signal?.reason)
      }
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', stop)
        resolve()
      }, ms)
      if (signal?.aborted) stop()
      else signal?.addEventListener('abort', stop, { once: true })
    }),
}

const FIRST_BACKOFF_MS = 250
const LONGEST_BACKOFF_MS = 8_000

/** Doubles at each attempt; half of it is random, so that clients do not retry in step. */
export function backoffMs(attempt: number, firstMs = FIRST_BACKOFF_MS): number {
  return Math.min(LONGEST_BACKOFF_MS, firstMs * 2 ** attempt) * (0.5 + Math.random() / 2)
}

/** Whether the service, or the network path to it, is temporarily unavailable. */
export function isTransient(error: unknown): boolean {
  if (!(error instanceof ProblemError)) return false
  return error.code === 'unreachable' || [429, 502, 503, 504].includes(error.status)
}

export interface RetryOptions {
  clock: Clock
  signal?: AbortSignal | null | undefined
  /** How long after the call began such an error is still retried; 0 for never. */
  patienceMs: (error: unknown) => number
}

/** Repeats the work with backoff, never sooner than `Retry-After` says; gives up with the last error. */
export async function retrying<T>(work: () => Promise<T>, { clock, signal, patienceMs }: RetryOptions): Promise<T> {
  const start = clock.now()
  for (let attempt = 0; ; attempt++) {
    signal?.throwIfAborted()
    try {
      return await work()
    } catch (error) {
      const waitMs = Math.max(backoffMs(attempt), retryAfterMs(error))
      if (clock.now() - start + waitMs > patienceMs(error)) throw error
      await clock.wait(waitMs, signal ?? undefined)
    }
  }
}

export const retryAfterMs = (error: unknown): number =>
  error instanceof ProblemError ? (error.retryAfterSeconds ?? 0) * 1000 : 0
