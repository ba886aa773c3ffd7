import { existsSync } from 'node:fs'
import Database from 'better-sqlite3'
import { SYSTEM_TIME } from '../../clock.ts'
import type { ReadOnlyStore } from '../store.ts'
import { sqliteAgents } from './agents.ts'
import { sqliteKeys } from './keys.ts'
import { filePath, storedClock } from './sqlite.ts'
import { createDb } from './statements.ts'
import { sqliteUsers } from './users.ts'

/**
 * The part of an existing store that describes tokens; null when there is no store. Creates and migrates nothing.
 * @throws Error when the file exists but is not a store that this version can read.
 */
export function openReadOnly(url: string): ReadOnlyStore | null {
  const path = filePath(url)
  if (path === null || !existsSync(path)) return null
  const raw = new Database(path, { readonly: true, fileMustExist: true })
  try {
    const db = createDb(raw)
    const refuse = () => Promise.reject(new Error('The store is open for reading only'))
    return {
      clock: storedClock(db, SYSTEM_TIME).clock,
      keys: sqliteKeys(db, refuse),
      agents: sqliteAgents(db, refuse),
      users: sqliteUsers(db, refuse),
      async close() {
        raw.close()
      },
    }
  } catch (error) {
    raw.close()
    throw error
  }
}
