import type { Logger } from 'pino'

/** Work that nobody waits for, such as telling LiveKit what has already been committed. */
export interface Background {
  run(name: string, work: () => Promise<unknown>): void
  /** Resolves when nothing is under way. */
  idle(): Promise<void>
}

/** Failures are logged and left to the reconciler, which repeats whatever is still to do. */
export function createBackground(log: Logger): Background {
  const running = new Set<Promise<unknown>>()
  return {
    run(name, work) {
      const task = work()
        .catch((err: unknown) => log.warn({ err, work: name }, 'background work failed; the reconciler repeats it'))
        .finally(() => running.delete(task))
      running.add(task)
    },
    async idle() {
      while (running.size > 0) await Promise.all(running)
    },
  }
}
