import type { Logger } from 'pino'

/** Work that no request waits for, such as carrying out a committed change in LiveKit. */
export interface Background {
  run(name: string, work: () => Promise<unknown>): void
  /** Resolves when no work is running. */
  idle(): Promise<void>
}

/** Failures are logged and left to the reconciler, which retries them. */
export function createBackground(log: Logger): Background {
  const running = new Set<Promise<unknown>>()
  return {
    run(name, work) {
      const task = work()
        .catch((err: unknown) => log.warn({ err, work: name }, 'background work failed; the reconciler will retry it'))
        .finally(() => running.delete(task))
      running.add(task)
    },
    async idle() {
      while (running.size > 0) await Promise.all(running)
    },
  }
}
