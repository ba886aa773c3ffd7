import { existsSync, realpathSync } from 'node:fs'
import Database from 'better-sqlite3'
import { OperatorError } from '../../errors.ts'
import { filePath, makeFolder, usingFile } from './sqlite.ts'

/** Another process holds the store. */
export class StoreInUse extends OperatorError {
  constructor(path: string, pid: number | undefined) {
    super(
      `${path} is in use by another service${pid === undefined ? '' : ` (process ${pid})`}. ` +
        'Stop that service first, or set another DATABASE_URL.',
    )
    this.name = 'StoreInUse'
  }
}

interface StoreLock {
  release(): void
}

/** Milliseconds: long enough for the other process to commit its id, short enough to fail promptly. */
const WAIT_MS = 500

/**
 * Makes this process the only service on a SQLite file. The lock is SQLite's own write lock on `<file>.lock`: the OS
 * releases it however the process ends; the file itself stays. An in-memory database needs none.
 * @throws StoreInUse while another process, or another lock of this one, holds it; OperatorError for an unusable path
 */
export function lockStore(url: string): StoreLock {
  const path = filePath(url)
  return path === null ? { release() {} } : usingFile(path, () => lockPath(path))
}

function lockPath(path: string): StoreLock {
  makeFolder(path)
  // All paths to the same file share one lock.
  const real = existsSync(path) ? realpathSync(path) : path
  const side = new Database(`${real}.lock`, { timeout: WAIT_MS })
  try {
    do {
      if (side.inTransaction) side.exec('rollback')
      side.exec('begin immediate')
      side.pragma(`user_version = ${process.pid}`)
      // Others can read the id only once committed. If another process took the lock meanwhile, its id is there: retry.
      side.exec('commit; begin immediate')
    } while (holder(side) !== process.pid)
  } catch (error) {
    const pid = holder(side)
    side.close()
    throw isBusy(error) ? new StoreInUse(path, pid) : error
  }
  return { release: () => void side.close() }
}

/** The process id of the last holder; undefined when it cannot be read now. */
function holder(side: Database.Database): number | undefined {
  try {
    return Number(side.pragma('user_version', { simple: true })) || undefined
  } catch {
    return undefined
  }
}

const isBusy = (error: unknown) => error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY')
