import { SYSTEM_TIME } from '../../clock.ts'
import type { CommandOptions } from '../commands.ts'
import type { OpenOptions, Store } from '../store.ts'
import { postgresAgents } from './agents.ts'
import { postgresAudit } from './audit.ts'
import { storedClock } from './clock.ts'
import { postgresCounters } from './counters.ts'
import { postgresEvents } from './events.ts'
import { postgresJobs } from './jobs.ts'
import { postgresKeys } from './keys.ts'
import { type Migrates, openPostgres } from './postgres.ts'
import { postgresRooms } from './rooms.ts'
import { postgresSessions } from './sessions.ts'
import { createSharedHints } from './shared-hints.ts'
import { takeTurn } from './turns.ts'
import { postgresUsers } from './users.ts'

/** Connects to the PostgreSQL database, migrated and ready. @throws OperatorError */
export const openPostgresStore = (url: string, options: Options): Promise<Store> => open(url, options, 'always')

/** Connects for a command, which migrates no schema under running instances. @throws OperatorError */
export const openForCommand = (url: string, { mayCreate }: CommandOptions): Promise<Store> =>
  open(url, COMMAND, mayCreate ? 'when empty' : 'never')

type Options = Omit<OpenOptions, 'committed'>

const COMMAND: Options = { time: SYSTEM_TIME, keepsTime: false, poolSize: 2 }

async function open(url: string, { time, keepsTime, poolSize }: Options, migrates: Migrates): Promise<Store> {
  const db = await openPostgres(url, poolSize, migrates)
  const stored = await storedClock(db, time, keepsTime)
  const { clock, save, stop } = stored
  const hints = createSharedHints(db)
  return {
    clock,
    users: postgresUsers(db),
    keys: postgresKeys(db),
    agents: postgresAgents(db),
    jobs: postgresJobs(db),
    rooms: postgresRooms(db),
    sessions: postgresSessions(db, hints, stored),
    events: postgresEvents(db, hints),
    audit: postgresAudit(db),
    counters: postgresCounters(db),
    takeTurn: (name, everyMs) => takeTurn(db, name, everyMs),
    saveClock: save,
    async close() {
      // If the database is down, only the time since the last write is lost.
      await save().catch(() => {})
      stop()
      await hints.close()
      await db.close()
    },
  }
}
