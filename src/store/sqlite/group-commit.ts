import type Database from 'better-sqlite3'
import { AppError } from '../../errors.ts'

/** Runs a synchronous write inside the next shared transaction; resolves when that transaction is on disk. */
export type Write = <T>(work: () => T) => Promise<T>

interface Waiting {
  work: () => unknown
  resolve: (value: unknown) => void
  reject: (error: unknown) => void
}

/** Writes per transaction; the rest of a burst goes into further ones. */
const MAX_GROUP = 512

/**
 * Group commit: all writes of one event-loop turn share one transaction, so that one fsync makes all of them durable.
 * Each write runs in its own savepoint: if one throws, only that one is undone and only its caller gets the error.
 * `beforeCommit` writes what belongs in every transaction.
 */
export function createGroupCommit(
  raw: Database.Database,
  beforeCommit = () => {},
): { write: Write; flush: () => void } {
  const begin = raw.prepare('BEGIN IMMEDIATE')
  const commit = raw.prepare('COMMIT')
  const rollback = raw.prepare('ROLLBACK')
  const savepoint = raw.prepare('SAVEPOINT one_write')
  const release = raw.prepare('RELEASE one_write')
  const undo = raw.prepare('ROLLBACK TO one_write')
  let queue: Waiting[] = []

  function runOne(waiting: Waiting): () => void {
    savepoint.run()
    try {
      const value = waiting.work()
      release.run()
      return () => waiting.resolve(value)
    } catch (error) {
      // A full disk makes SQLite roll back the whole transaction, and the savepoint with it.
      if (!raw.inTransaction) throw error
      undo.run()
      release.run()
      return () => waiting.reject(asStoreError(error))
    }
  }

  function runGroup(group: Waiting[]): void {
    let outcomes: Array<() => void>
    try {
      begin.run()
      outcomes = group.map(runOne)
      beforeCommit()
      commit.run()
    } catch (error) {
      if (raw.inTransaction) rollback.run()
      const failure = asStoreError(error)
      for (const waiting of group) waiting.reject(failure)
      return
    }
    for (const settle of outcomes) settle()
  }

  function flush(): void {
    const all = queue
    queue = []
    for (let i = 0; i < all.length; i += MAX_GROUP) runGroup(all.slice(i, i + MAX_GROUP))
  }

  return {
    flush,
    write: (work) =>
      new Promise((resolve, reject) => {
        if (queue.push({ work, resolve: resolve as (value: unknown) => void, reject }) === 1) setImmediate(flush)
      }),
  }
}

/** SQLite's refusals (full, locked, I/O, corrupt) become a 503; a violated constraint is a bug and passes through. */
function asStoreError(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (!code.startsWith('SQLITE_') || code.startsWith('SQLITE_CONSTRAINT')) return error
  return new AppError('store_unavailable', 'The database is unavailable right now.', {
    cause: error,
    retryAfterSeconds: 1,
  })
}

/** Runs a read; SQLite's refusals reject as AppError `store_unavailable`. */
export async function runRead<T>(read: () => T): Promise<T> {
  try {
    return read()
  } catch (error) {
    throw asStoreError(error)
  }
}

/** Spreads reads over turns of the event loop, about `costPerTurn` in each, so that other work can run in between. */
export function createPacedReads(costPerTurn: number) {
  let spent = 0
  let nextTurn: Promise<void> | undefined
  return async function inTurn<T>(read: () => { value: T; cost: number }): Promise<T> {
    while (spent >= costPerTurn) await nextTurn
    return runRead(() => {
      const { value, cost } = read()
      spent += cost
      nextTurn ??= new Promise((resolve) => {
        setImmediate(() => {
          spent = 0
          nextTurn = undefined
          resolve()
        })
      })
      return value
    })
  }
}
