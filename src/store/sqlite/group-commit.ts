import type Database from 'better-sqlite3'
import { AppError } from '../../errors.ts'
import type { Wal } from './wal.ts'

/** Runs a synchronous write inside the next shared transaction; resolves when all that it changed or read is on disk. */
export type Write = <T>(work: () => T) => Promise<T>

interface Waiting {
  work: () => unknown
  resolve: (value: unknown) => void
  reject: (error: unknown) => void
}

/** Milliseconds after which a disk counts as stalled: what it is asked for then is refused at once. */
const STALLED_MS = 5000

/** Writes per transaction; the rest of a burst goes into further ones. */
const MAX_GROUP = 512

interface GroupCommit {
  write: Write
  /**
   * Resolves when everything that is visible now is on disk, or has failed to get there.
   * @throws AppError `store_unavailable` when the disk has not answered for some time
   */
  durable(): Promise<void>
  /** Refuses further writes; resolves when those before are done. */
  close(): Promise<void>
}

interface Hooks {
  /** Writes what belongs in every transaction that changes something. */
  beforeCommit?: () => void
  /** Absent for a database in memory. */
  wal?: Pick<Wal, 'sync' | 'trim'>
  /** Called whenever a group has settled, with the number of its writes. */
  settled?: (writes: number) => void
}

/**
 * Group commit: writes that arrive while the last group is being made durable share the next transaction and its fsync.
 * They see each other and are visible to reads before they are durable; their callers are answered afterwards.
 * Each write runs in its own savepoint: if one throws, only that one is undone and only its caller gets the error.
 */
export function createGroupCommit(
  raw: Database.Database,
  { beforeCommit = () => {}, wal, settled = () => {} }: Hooks = {},
): GroupCommit {
  const begin = raw.prepare('BEGIN IMMEDIATE')
  const commit = raw.prepare('COMMIT')
  const rollback = raw.prepare('ROLLBACK')
  const savepoint = raw.prepare('SAVEPOINT one_write')
  const release = raw.prepare('RELEASE one_write')
  const undo = raw.prepare('ROLLBACK TO one_write')
  const changes = raw.prepare('SELECT total_changes()').pluck()
  const restart = raw.prepare<[], { busy: number }>('PRAGMA wal_checkpoint(RESTART)')
  const queue: Waiting[] = []
  let running: Promise<void> | undefined
  let syncing: Promise<void> | undefined
  let syncingSince = 0
  let isUnsynced = false
  let isClosing = false

  const isStalled = () => syncing !== undefined && performance.now() - syncingSince > STALLED_MS

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

  /** What the callers are told, and whether that must wait for a sync: what a group without changes read is on disk already. */
  function commitGroup(group: Waiting[]) {
    try {
      if (isUnsynced) resync()
      begin.run()
      const before = changes.get()
      const outcomes = group.map(runOne)
      const hasChanges = changes.get() !== before
      if (hasChanges) beforeCommit()
      commit.run()
      return { outcomes, hasChanges }
    } catch (error) {
      if (raw.inTransaction) rollback.run()
      throw error
    }
  }

  /**
   * After a failed fsync a later one may succeed without having written anything, so the pages are written to the database
   * file instead. The log starts again, because recovery would stop at a lost page in it.
   */
  function resync(): void {
    isUnsynced = true
    raw.pragma('busy_timeout = 0')
    try {
      if (restart.get()?.busy !== 0) throw new Error('Another process is reading the database')
    } catch (error) {
      throw unavailable(error)
    } finally {
      raw.pragma('busy_timeout = 5000')
    }
    isUnsynced = false
  }

  async function runGroup(group: Waiting[]): Promise<void> {
    try {
      const { outcomes, hasChanges } = commitGroup(group)
      syncingSince = performance.now()
      syncing = hasChanges ? wal?.sync().catch(resync) : undefined
      await syncing
      for (const settle of outcomes) settle()
    } catch (error) {
      const failure = asStoreError(error)
      for (const waiting of group) waiting.reject(failure)
    }
    syncing = undefined
    settled(group.length)
  }

  async function runAll(): Promise<void> {
    while (queue.length > 0) {
      // Lets all requests of this turn join the group.
      await new Promise((resolve) => setImmediate(resolve))
      await runGroup(queue.splice(0, MAX_GROUP))
      // If that fails, it is tried again after the next group.
      await wal?.trim().catch(() => {})
    }
    running = undefined
  }

  return {
    write: (work) =>
      new Promise((resolve, reject) => {
        if (isClosing || isStalled())
          throw unavailable(new Error(isClosing ? 'The store is closing' : 'The disk is stalled'))
        queue.push({ work, resolve: resolve as (value: unknown) => void, reject })
        running ??= runAll()
      }),
    async durable() {
      if (isStalled()) throw unavailable(new Error('The disk is stalled'))
      await syncing?.catch(() => {})
    },
    async close() {
      isClosing = true
      await running
    },
  }
}

/** SQLite's refusals (full, locked, I/O, corrupt) become a 503; a violated constraint is a bug and passes through. */
function asStoreError(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return code.startsWith('SQLITE_') && !code.startsWith('SQLITE_CONSTRAINT') ? unavailable(error) : error
}

const unavailable = (cause: unknown) =>
  new AppError('store_unavailable', 'The database is unavailable right now.', { cause, retryAfterSeconds: 1 })

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
