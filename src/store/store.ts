import { type Clock, SYSTEM_TIME } from '../clock.ts'
import type { AgentStore } from './agents.ts'
import type { AuditStore } from './audit.ts'
import type { KeyStore } from './keys.ts'
import type { RoomStore } from './rooms.ts'
import type { EventStore, SessionStore } from './sessions.ts'
import { sqliteAgents } from './sqlite/agents.ts'
import { appendHints } from './sqlite/append-hints.ts'
import { sqliteAudit } from './sqlite/audit.ts'
import { sqliteEvents } from './sqlite/events.ts'
import { createGroupCommit } from './sqlite/group-commit.ts'
import { sqliteKeys } from './sqlite/keys.ts'
import { sqliteRooms } from './sqlite/rooms.ts'
import { sqliteSessions } from './sqlite/sessions.ts'
import { openSqlite } from './sqlite/sqlite.ts'
import { storedClock } from './sqlite/stored-clock.ts'
import { sqliteUsers } from './sqlite/users.ts'
import type { UserStore } from './users.ts'

/** Everything that is remembered, one small interface per feature. */
export interface Store {
  /** Its times are ordered among all that is stored, by this process and by those before it. */
  clock: Clock
  users: UserStore
  keys: KeyStore
  agents: AgentStore
  rooms: RoomStore
  sessions: SessionStore
  events: EventStore
  audit: AuditStore
  /** Writes the clock down: what has passed since the last write is not known after a crash. */
  saveClock(): Promise<void>
  /** Settles what is queued, then closes. */
  close(): Promise<void>
}

/** Opens the store that `DATABASE_URL` names, migrated and ready. */
export async function openStore(url: string, time = SYSTEM_TIME): Promise<Store> {
  const { db, raw } = openSqlite(url)
  const { clock, save } = storedClock(db, time)
  const { write, flush } = createGroupCommit(raw, save)
  const hints = appendHints()
  return {
    clock,
    users: sqliteUsers(db, write),
    keys: sqliteKeys(db, write),
    agents: sqliteAgents(db, write),
    rooms: sqliteRooms(db, write),
    sessions: sqliteSessions(db, write, hints, clock),
    events: sqliteEvents(db, hints),
    audit: sqliteAudit(db, write),
    saveClock: () => write(() => {}),
    async close() {
      // It fails alone where the disk is full; the time since the last write is lost then.
      write(() => {}).catch(() => {})
      flush()
      try {
        // A reader beside us may keep the file from being folded into one; that is no reason to wait for long.
        if (raw.open && !raw.memory) raw.exec('pragma busy_timeout = 1000; pragma wal_checkpoint(TRUNCATE)')
      } finally {
        raw.close()
      }
    },
  }
}
