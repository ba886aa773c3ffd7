import { type Clock, SYSTEM_TIME, type TimeSource } from '../clock.ts'
import type { AgentStore } from './agents.ts'
import type { AuditStore } from './audit.ts'
import type { JobStore } from './jobs.ts'
import type { KeyStore } from './keys.ts'
import type { RoomStore } from './rooms.ts'
import type { EventStore, SessionStore } from './sessions.ts'
import { sqliteAgents } from './sqlite/agents.ts'
import { sqliteAudit } from './sqlite/audit.ts'
import { appendHints, sqliteEvents } from './sqlite/events.ts'
import { createGroupCommit } from './sqlite/group-commit.ts'
import { sqliteJobs } from './sqlite/jobs.ts'
import { sqliteKeys } from './sqlite/keys.ts'
import { sqliteRooms } from './sqlite/rooms.ts'
import { sqliteSessions } from './sqlite/sessions.ts'
import { filePath, openSqlite, storedClock, usingFile } from './sqlite/sqlite.ts'
import { sqliteUsers } from './sqlite/users.ts'
import { takeOverWal } from './sqlite/wal.ts'
import type { UserStore } from './users.ts'

/** Everything the service stores, one small interface per feature. */
export interface Store {
  /** Its times are ordered with everything stored by this process and earlier ones. */
  clock: Clock
  users: UserStore
  keys: KeyStore
  agents: AgentStore
  jobs: JobStore
  rooms: RoomStore
  sessions: SessionStore
  events: EventStore
  audit: AuditStore
  /** Saves the clock: a crash loses the time since the last write. */
  saveClock(): Promise<void>
  /** Settles queued writes, then closes. */
  close(): Promise<void>
}

interface OpenOptions {
  time?: TimeSource
  /** False for a command beside the service: a step of its clock must not reach the service's next start. */
  keepsTime?: boolean
  /** Called with the number of writes that a transaction shared. */
  committed?: (writes: number) => void
}

/** Opens the store that `DATABASE_URL` names, migrated and ready. */
export async function openStore(
  url: string,
  { time = SYSTEM_TIME, keepsTime = true, committed }: OpenOptions = {},
): Promise<Store> {
  const { db, raw } = openSqlite(url)
  const { clock, save } = storedClock(db, time)
  const wal = usingFile(filePath(url), () => takeOverWal(raw))
  const hints = appendHints()
  const { write, durable, close } = createGroupCommit(raw, {
    ...(keepsTime ? { beforeCommit: save } : {}),
    ...(wal ? { wal } : {}),
    settled(writes) {
      hints.notify()
      committed?.(writes)
    },
  })
  return {
    clock,
    users: sqliteUsers(db, write),
    keys: sqliteKeys(db, write),
    agents: sqliteAgents(db, write),
    jobs: sqliteJobs(db, write),
    rooms: sqliteRooms(db, write),
    sessions: sqliteSessions(db, write, hints, durable, clock),
    events: sqliteEvents(db, hints, durable),
    audit: sqliteAudit(db, write),
    saveClock: () => write(() => {}),
    async close() {
      // Saves the clock. On a full disk only this write fails, and the time since the last one is lost.
      await write(() => {}).catch(() => {})
      await close()
      await wal?.close()
      try {
        // Another process's reader may block this checkpoint of the WAL; that is not worth a long wait.
        if (raw.open && !raw.memory) raw.exec('pragma busy_timeout = 1000; pragma wal_checkpoint(TRUNCATE)')
      } finally {
        raw.close()
      }
    },
  }
}
