import { existsSync } from 'node:fs'
import Database from 'better-sqlite3'
import { OperatorError } from '../../errors.ts'
import type { CommandOptions } from '../commands.ts'
import { openStore, type Store } from '../store.ts'
import { lockStore, StoreInUse } from './lock.ts'
import { existing, isStore } from './maintenance.ts'
import { filePath, latestMigration } from './sqlite.ts'

/**
 * Opens the store for a command, while the service runs or before it has ever run. Never migrates the schema under a
 * running service.
 */
export async function openForCommand(url: string, { mayCreate }: CommandOptions): Promise<Store> {
  const named = filePath(url)
  if (mayCreate && named !== null && !existsSync(named)) {
    return openAlone(url, `A service is still creating ${named}: try again.`)
  }
  const path = existing(url)
  const version = versionOf(path)
  const latest = latestMigration()
  if (version > latest) {
    throw new OperatorError(`${path} belongs to a newer version of the service: run this command from that version.`)
  }
  if (version === latest) return openStore(url, { keepsTime: false })
  return openAlone(
    url,
    `${path} is in use by an older version of the service: restart the service with this version first.`,
  )
}

/** Opening migrates, so no other process may use the store meanwhile. */
async function openAlone(url: string, refusal: string): Promise<Store> {
  try {
    const lock = lockStore(url)
    return await openStore(url, { keepsTime: false }).finally(() => lock.release())
  } catch (error) {
    throw error instanceof StoreInUse ? new OperatorError(refusal) : error
  }
}

/** @throws OperatorError unless the store has this version's schema */
export function assertCurrent(path: string): void {
  if (versionOf(path) !== latestMigration()) {
    throw new OperatorError(`${path} belongs to another version of the service: start this version on it once.`)
  }
}

/** The last migration applied to the store. */
function versionOf(path: string): number {
  const raw = new Database(path, { readonly: true, fileMustExist: true })
  try {
    if (!isStore(raw)) throw new OperatorError(`${path} is not a store of this service.`)
    return Number(raw.prepare('select max(created_at) from __drizzle_migrations').pluck().get())
  } finally {
    raw.close()
  }
}
