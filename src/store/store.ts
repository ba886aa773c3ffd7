import { type Clock, SYSTEM_TIME, type TimeSource } from '../clock.ts'
import { OperatorError } from '../errors.ts'
import type { Counters } from '../http/counters.ts'
import type { AgentStore } from './agents.ts'
import type { AuditStore } from './audit.ts'
import type { JobStore } from './jobs.ts'
import type { KeyStore } from './keys.ts'
import type { RoomStore } from './rooms.ts'
import type { EventStore, SessionStore } from './sessions.ts'
import type { UserStore } from './users.ts'

/** Everything the service stores, one small interface per feature. */
export interface Store {
  /** Comparable with every stored time, whether this process, an earlier one or another instance stored it. */
  clock: Clock
  users: UserStore
  keys: KeyStore
  agents: AgentStore
  jobs: JobStore
  rooms: RoomStore
  sessions: SessionStore
  events: EventStore
  audit: AuditStore
  /** Shared by all instances on a PostgreSQL database; on SQLite in memory. */
  counters: Counters
  /**
   * Gives each turn of work that is due every `everyMs` to one of the instances on the database. Returns 0 to that one,
   * to the others the milliseconds until the next turn. If its instance dies, a turn is not given again.
   */
  takeTurn(name: string, everyMs: number): Promise<number>
  /** Saves the clock: a crash loses the time since the last write. */
  saveClock(): Promise<void>
  /** Settles queued writes, then closes. */
  close(): Promise<void>
}

/** The part of a store that describes tokens. */
export type ReadOnlyStore = Pick<Store, 'clock' | 'keys' | 'agents' | 'users' | 'close'>

export interface OpenOptions {
  time: TimeSource
  /** False for a command beside the service: a step of its clock must not reach the service's next start. */
  keepsTime: boolean
  /** Connections to PostgreSQL at once. */
  poolSize: number
  /** Called with the number of writes that an SQLite transaction shared. */
  committed: (writes: number) => void
}

/** Whether `DATABASE_URL` names a PostgreSQL database; else it names an SQLite file. */
export const isPostgres = (url: string): boolean => /^postgres(ql)?:/.test(url)

/** Opens the store that `DATABASE_URL` names, migrated and ready. @throws OperatorError when it cannot be used */
export async function openStore(
  url: string,
  { time = SYSTEM_TIME, keepsTime = true, poolSize = 10, committed = () => {} }: Partial<OpenOptions> = {},
): Promise<Store> {
  const options = { time, keepsTime, poolSize, committed }
  if (isPostgres(url)) return (await loadPostgres()).openPostgresStore(url, options)
  return (await import('./sqlite/store.ts')).openSqliteStore(url, options)
}

/** Loaded only when it is used: the driver is an optional dependency. */
export async function loadPostgres() {
  try {
    return await import('./postgres/store.ts')
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new OperatorError('DATABASE_URL names PostgreSQL, but its driver is not installed: npm install pg.', {
      cause: error,
    })
  }
}
