import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { type SQL, sql } from 'drizzle-orm'
import { type BetterSQLite3Database, drizzle } from 'drizzle-orm/better-sqlite3'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import { readMigrationFiles } from 'drizzle-orm/migrator'
import * as schema from './schema.ts'

export type Db = BetterSQLite3Database<typeof schema>

interface SqliteFile {
  db: Db
  raw: Database.Database
}

/** A named value of a prepared statement. */
export const param = (name: string) => sql.placeholder(name)

/** Maps each column to the named value of the same name. */
export const values = <T extends object>(columns: T) =>
  Object.fromEntries(Object.keys(columns).map((name) => [name, sql`${param(name)}`])) as { [K in keyof T]: SQL }

const MIGRATIONS = fileURLToPath(new URL('../../../drizzle', import.meta.url))

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

/** The path in `file:<path>`; null for an in-memory database. */
export function filePath(url: string): string | null {
  const path = url.slice('file:'.length)
  return path === ':memory:' ? null : path
}

/**
 * Opens `file:<path>`: creates the folder, sets and asserts the durability settings, migrates.
 * Each `file::memory:` is a separate database, for tests.
 * @throws Error when a setting did not take or the file cannot be opened.
 */
export function openSqlite(url: string): SqliteFile {
  const path = filePath(url)
  if (path !== null) makeFile(path)
  const raw = new Database(path ?? ':memory:')
  for (const [pragma, value, readsAs] of SETTINGS) {
    raw.pragma(`${pragma} = ${value}`)
    const actual = raw.pragma(pragma, { simple: true })
    const expected = path === null && pragma === 'journal_mode' ? 'memory' : readsAs
    if (actual !== expected) throw new Error(`SQLite: ${pragma} is ${String(actual)}, not ${expected}`)
  }
  const db = drizzle(raw, { schema })
  migrate(db, { migrationsFolder: MIGRATIONS })
  return { db, raw }
}

/** This version's newest migration, as `created_at` in the migrations table. */
export const latestMigration = (): number =>
  Math.max(...readMigrationFiles({ migrationsFolder: MIGRATIONS }).map(({ folderMillis }) => folderMillis))

/** Only the owner may read the file: it holds private signing keys. SQLite gives `-wal` and `-shm` the same mode. */
function makeFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true })
  if (!existsSync(path)) closeSync(openSync(path, 'a', 0o600))
}
