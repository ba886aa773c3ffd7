import Database from 'better-sqlite3'
import { SYSTEM_TIME } from '../../clock.ts'
import type { ReadOnlyStore } from '../store.ts'
import { sqliteAgents } from './agents.ts'
import { sqliteKeys } from './keys.ts'
import { existing } from './maintenance.ts'
import { storedClock } from './sqlite.ts'
import { createDb } from './statements.ts'
import { sqliteUsers } from './users.ts'

/** The part of an existing store that describes tokens. Creates and migrates nothing. @throws Error unless this version can read it */
export function openReadOnly(url: string): ReadOnlyStore {
  const raw = new Database(existing(url), { readonly: true, fileMustExist: true })
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
