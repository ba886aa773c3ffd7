import type { OpenOptions, Store } from '../store.ts'
import { postgresAgents } from './agents.ts'
import { postgresAudit } from './audit.ts'
import { storedClock } from './clock.ts'
import { postgresEvents } from './events.ts'
import { postgresJobs } from './jobs.ts'
import { postgresKeys } from './keys.ts'
import { openPostgres } from './postgres.ts'
import { postgresRooms } from './rooms.ts'
import { postgresSessions } from './sessions.ts'
import { createSharedHints } from './shared-hints.ts'
import { postgresUsers } from './users.ts'

/** Connects to the PostgreSQL database, migrated and ready. @throws OperatorError */
export async function openPostgresStore(url: string, { time, keepsTime, poolSize }: OpenOptions): Promise<Store> {
  const db = await openPostgres(url, poolSize)
  const { clock, save } = await storedClock(db, time)
  const hints = createSharedHints(db)
  const saveClock = async () => {
    if (keepsTime) await save()
  }
  return {
    clock,
    users: postgresUsers(db),
    keys: postgresKeys(db),
    agents: postgresAgents(db),
    jobs: postgresJobs(db),
    rooms: postgresRooms(db),
    sessions: postgresSessions(db, hints, clock),
    events: postgresEvents(db, hints),
    audit: postgresAudit(db),
    saveClock,
    async close() {
      // Without the database only this write fails, and the time since the last one is lost.
      await saveClock().catch(() => {})
      await hints.close()
      await db.close()
    },
  }
}
