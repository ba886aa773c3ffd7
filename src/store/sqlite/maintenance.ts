import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname, resolve } from 'node:path'
import Database from 'better-sqlite3'
import { OperatorError } from '../../errors.ts'
import { lockStore } from './lock.ts'
import { filePath } from './sqlite.ts'

const MAX_PROBLEMS = 20
/** Tables that every store has had since the first version. */
const STORE_TABLES = ['__drizzle_migrations', 'events', 'sessions', 'signing_keys', 'users']

/**
 * Reads the whole store, even while the service runs; returns one line per problem.
 * @throws OperatorError when there is no file
 */
export function check(url: string): string[] {
  return problemsOf(existing(url))
}

/**
 * Copies the store while the service runs, and renames the copy to `target` once it has passed the checks. One file,
 * mode 0600: it holds the signing keys.
 * @throws OperatorError when there is no store, `target` exists, or the copy is damaged
 */
export async function backup(url: string, target: string): Promise<void> {
  const path = existing(url)
  if (existsSync(target)) throw new OperatorError(`${target} already exists: name a new file.`)
  const partial = `${target}.partial-${process.pid}`
  try {
    closeSync(openSync(partial, 'w', 0o600))
    await copyStore(path, partial)
    assertSound(partial, 'The backup')
    sync(partial)
    renameSync(partial, target)
    sync(dirname(resolve(target)))
  } finally {
    rmSync(partial, { force: true })
  }
}

/**
 * Replaces the store with a checked copy of the backup.
 * @returns where the old file is kept; null when there was none
 * @throws StoreInUse while a service runs; OperatorError when the backup is damaged. Then nothing has changed.
 */
export function restore(url: string, file: string, now: number): string | null {
  const named = filePath(url)
  if (named === null) throw inMemory()
  const path = existsSync(named) ? realpathSync(named) : named
  if (!existsSync(file)) throw new OperatorError(`There is no file ${file}.`)
  if (existsSync(`${file}-wal`) && statSync(`${file}-wal`).size > 0) {
    throw new OperatorError(
      `${file} has unfinished writes in ${file}-wal, so it is not a backup: make one with "store -- backup".`,
    )
  }
  const lock = lockStore(url)
  const incoming = `${path}.incoming-${process.pid}`
  try {
    copyFileSync(file, incoming)
    chmodSync(incoming, 0o600)
    assertSound(incoming, file)
    inOneFile(incoming)
    sync(incoming)
    const kept = existsSync(path) ? keepAside(path, now) : null
    renameSync(incoming, path)
    sync(dirname(resolve(path)))
    return kept
  } finally {
    for (const suffix of ['', '-wal', '-shm']) rmSync(incoming + suffix, { force: true })
    lock.release()
  }
}

/** The path of an existing store. @throws OperatorError */
export function existing(url: string): string {
  const path = filePath(url)
  if (path === null) throw inMemory()
  if (!existsSync(path)) {
    throw new OperatorError(`There is no store at ${path}: check DATABASE_URL, or start the service to create it.`)
  }
  return path
}

const inMemory = () => new OperatorError('An in-memory database has no file.')

async function copyStore(path: string, target: string): Promise<void> {
  const source = new Database(path, { readonly: true, fileMustExist: true })
  try {
    // All pages in one step: a copy in several steps restarts whenever the service writes in between.
    await source.backup(target, { progress: () => 0x7fffffff })
  } finally {
    source.close()
  }
  inOneFile(target)
}

function inOneFile(path: string): void {
  const raw = new Database(path, { fileMustExist: true })
  try {
    raw.pragma('journal_mode = DELETE')
  } finally {
    raw.close()
  }
}

function assertSound(path: string, name: string): void {
  const [problem] = problemsOf(path)
  if (problem !== undefined) throw new OperatorError(`${name} is damaged: ${problem}. Nothing was changed.`)
}

function problemsOf(path: string): string[] {
  let raw: Database.Database | undefined
  try {
    raw = new Database(path, { readonly: true, fileMustExist: true })
    const integrity = raw.prepare<[], string>(`pragma integrity_check(${MAX_PROBLEMS})`).pluck().all()
    const broken = raw.prepare<[], { table: string; rowid: number; parent: string }>('pragma foreign_key_check').all()
    return [
      ...integrity.filter((line) => line !== 'ok'),
      ...broken.map(({ table, rowid, parent }) => `row ${rowid} of ${table} refers to a missing row of ${parent}`),
      ...missingTables(raw).map((table) => `the table ${table} is missing`),
    ].slice(0, MAX_PROBLEMS)
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  } finally {
    raw?.close()
  }
}

/** Whether the file has the tables of a store, of any version. */
export const isStore = (raw: Database.Database): boolean => missingTables(raw).length === 0

function missingTables(raw: Database.Database): string[] {
  const tables = raw.prepare<[], string>("select name from sqlite_master where type = 'table'").pluck().all()
  return STORE_TABLES.filter((table) => !tables.includes(table))
}

/** Keeps the old file, damaged or not, under a second name. Its own name stays until the new file replaces it. */
function keepAside(path: string, now: number): string {
  const aside = `${path}.before-restore-${new Date(now).toISOString().replace(/[:.]/g, '-')}`
  // Opening a damaged file can delete its write-ahead log, which may hold data worth recovering.
  if (existsSync(`${path}-wal`)) copyFileSync(`${path}-wal`, `${aside}-wal`)
  if (foldWal(path)) {
    rmSync(`${aside}-wal`, { force: true })
    if (existsSync(`${path}-wal`)) {
      throw new OperatorError(`Another process has ${path} open: wait for it, or stop it. Nothing was changed.`)
    }
  }
  for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true })
  try {
    linkSync(path, aside)
  } catch {
    copyFileSync(path, aside)
    chmodSync(aside, 0o600)
  }
  return aside
}

/** Checkpoints the write-ahead log; closing the last connection then deletes it. False for a damaged file. */
function foldWal(path: string): boolean {
  let raw: Database.Database | undefined
  try {
    raw = new Database(path, { timeout: 1000 })
    raw.pragma('wal_checkpoint(TRUNCATE)')
    return true
  } catch {
    return false
  } finally {
    raw?.close()
  }
}

function sync(path: string): void {
  const file = openSync(path, 'r')
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}
