import { createCounters } from '../../http/counters.ts'
import { createEventHints } from '../event-hints.ts'
import type { OpenOptions, Store } from '../store.ts'
import { sqliteAgents } from './agents.ts'
import { sqliteAudit } from './audit.ts'
import { sqliteEvents } from './events.ts'
import { createGroupCommit } from './group-commit.ts'
import { sqliteJobs } from './jobs.ts'
import { sqliteKeys } from './keys.ts'
import { sqliteRooms } from './rooms.ts'
import { sqliteSessions } from './sessions.ts'
import { filePath, openSqlite, storedClock, usingFile } from './sqlite.ts'
import { sqliteUsers } from './users.ts'
import { takeOverWal } from './wal.ts'

/** Opens the SQLite file, migrated and ready. */
export async function openSqliteStore(url: string, { time, keepsTime, committed }: OpenOptions): Promise<Store> {
  const { db, raw } = openSqlite(url)
  const { clock, save } = storedClock(db, time)
  const saveTime = keepsTime ? save : () => {}
  const wal = usingFile(filePath(url), () => takeOverWal(raw))
  const hints = createEventHints()
  const { write, durable, close } = createGroupCommit(raw, {
    beforeCommit: saveTime,
    ...(wal ? { wal } : {}),
    settled(writes) {
      hints.notify()
      committed(writes)
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
    counters: createCounters(),
    // `lockStore` rules out a second instance.
    takeTurn: async () => 0,
    saveClock: () => write(saveTime),
    async close() {
      // Saves the clock. On a full disk only this write fails, and the time since the last one is lost.
      await write(saveTime).catch(() => {})
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
