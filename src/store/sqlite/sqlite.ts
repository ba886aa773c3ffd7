import { accessSync, chmodSync, closeSync, constants, existsSync, mkdirSync, openSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { getTableColumns, type SQL, sql } from 'drizzle-orm'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import { readMigrationFiles } from 'drizzle-orm/migrator'
import { type Clock, createClock, type TimeSource } from '../../clock.ts'
import { OperatorError } from '../../errors.ts'
import * as schema from './schema.ts'
import { createDb, type Db } from './statements.ts'

export type { Db } from './statements.ts'

interface SqliteFile {
  db: Db
  raw: Database.Database
}

/** A named value of a prepared statement. */
export const param = (name: string) => sql.placeholder(name)

/** Maps each column to the named value of the same name. */
export const values = <T extends object>(columns: T) =>
  Object.fromEntries(Object.keys(columns).map((name) => [name, sql`${param(name)}`])) as { [K in keyof T]: SQL }

/** Runs an insert; null if the row belongs to one that was deleted meanwhile. */
export function unlessOrphan<T>(insert: () => T): T | null {
  try {
    return insert()
  } catch (error) {
    if ((error as { code?: string }).code === 'SQLITE_CONSTRAINT_FOREIGNKEY') return null
    throw error
  }
}

const MIGRATIONS = fileURLToPath(new URL('../../../drizzle', import.meta.url))

/** For migrations and commands that only read; a store that writes then takes over durability (`wal.ts`). */
const SETTINGS: ReadonlyArray<[pragma: string, value: string, readsAs: string | number]> = [
  ['journal_mode', 'WAL', 'wal'],
  // Reopening a WAL file silently gives NORMAL, which loses acknowledged commits on power loss.
  ['synchronous', 'FULL', 2],
  ['busy_timeout', '5000', 5000],
  ['foreign_keys', 'ON', 1],
  ['trusted_schema', 'OFF', 0],
  ['wal_autocheckpoint', '1000', 1000],
  ['journal_size_limit', '67108864', 67108864],
]

/** The absolute path that `file:<path>` names; null for an in-memory database. */
export function filePath(url: string): string | null {
  const path = url.slice('file:'.length)
  return path === ':memory:' ? null : resolve(path)
}

/** What to do when the file system or SQLite refuses, by the beginning of the error's code. */
const ADVICE = {
  EACCES: 'this user may not write there: change the owner or mode of the file and its folder',
  EPERM: 'this user may not change it: make it the owner, and set the mode to 600',
  EROFS: 'the disk is read-only: name a place on another one',
  ENOSPC: 'the disk is full: free some space',
  ENOTDIR: 'a file is where a folder should be',
  EEXIST: 'a file is where its folder should be',
  EISDIR: 'it is a folder: name a file in it',
  SQLITE_CANTOPEN: 'SQLite cannot open it: look at the mode of its folder, and of files beside it with the same name',
  SQLITE_READONLY: 'SQLite may not write to it: change the owner or mode of the file and its folder',
  SQLITE_FULL: 'the disk is full: free some space',
  SQLITE_IOERR: 'the disk does not read or write it',
  SQLITE_NOTADB: 'it is not an SQLite database: name another file, or restore a backup',
  SQLITE_CORRUPT: 'it is damaged: restore a backup with "behalf store restore <file>"',
  SQLITE_BUSY: 'another program holds it: wait for that one, or stop it',
}

/** Runs what opens the file at that path. @throws OperatorError for what an operator can put right */
export function usingFile<T>(path: string | null, open: () => T): T {
  try {
    return open()
  } catch (error) {
    const { code = '' } = error as { code?: string }
    const advice = Object.entries(ADVICE).find(([beginning]) => code.startsWith(beginning))?.[1]
    if (path === null || advice === undefined || error instanceof OperatorError) throw error
    throw new OperatorError(`DATABASE_URL: ${path} cannot be used (${code}): ${advice}.`, { cause: error })
  }
}

/**
 * Opens `file:<path>`: creates the folder, sets and asserts the durability settings, migrates.
 * Each `file::memory:` is a separate database, for tests.
 * @throws OperatorError when the file cannot be used, Error when a setting did not take
 */
export function openSqlite(url: string): SqliteFile {
  const path = filePath(url)
  return usingFile(path, () => openPath(path))
}

function openPath(path: string | null): SqliteFile {
  if (path !== null) makeFile(path)
  const raw = new Database(path ?? ':memory:')
  for (const [pragma, value, readsAs] of SETTINGS) {
    raw.pragma(`${pragma} = ${value}`)
    const actual = raw.pragma(pragma, { simple: true })
    const expected = path === null && pragma === 'journal_mode' ? 'memory' : readsAs
    if (actual !== expected) throw new Error(`SQLite: ${pragma} is ${String(actual)}, not ${expected}`)
  }
  const db = createDb(raw)
  migrate(db, { migrationsFolder: MIGRATIONS })
  return { db, raw }
}

/** This version's newest migration, as `created_at` in the migrations table. */
export const latestMigration = (): number =>
  Math.max(...readMigrationFiles({ migrationsFolder: MIGRATIONS }).map(({ folderMillis }) => folderMillis))

/** Creates the folder of the file if need be; it must be writable, for the files that SQLite puts beside it. */
export function makeFolder(path: string): void {
  mkdirSync(dirname(path), { recursive: true })
  accessSync(dirname(path), constants.W_OK | constants.X_OK)
}

/** Only the owner may read the file: it holds private signing keys. SQLite gives `-wal` and `-shm` the same mode. */
function makeFile(path: string): void {
  makeFolder(path)
  // Opening to append needs the rights that SQLite needs, and its refusals name the cause.
  closeSync(openSync(path, 'a', 0o600))
  for (const file of [path, `${path}-wal`, `${path}-shm`]) {
    if (existsSync(file) && isShared(statSync(file).mode)) chmodSync(file, 0o600)
  }
}

/** Windows reports modes that it does not have. */
const isShared = (mode: number) => process.platform !== 'win32' && (mode & 0o077) !== 0

/** The store's clock, which continues from the last write, and a function that saves it. */
export function storedClock(db: Db, source: TimeSource): { clock: Clock; save: () => void } {
  const stored = db.select().from(schema.clock).get()
  const clock = createClock(source, stored)
  const times = values(getTableColumns(schema.clock))
  const save = db
    .insert(schema.clock)
    .values(times)
    .onConflictDoUpdate({ target: schema.clock.id, set: times })
    .prepare()
  return {
    clock,
    save: () => void save.run({ id: 1, now: clock.now(), steady: clock.steady(), latest: clock.latest() }),
  }
}
