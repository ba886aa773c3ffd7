import { setTimeout as delay } from 'node:timers/promises'
import { type SQL, sql } from 'drizzle-orm'
import { type Clock, createClock, type LastTimes, runClock, type TimeSource } from '../../clock.ts'
import { createSingleFlight } from '../../single-flight.ts'
import type { Postgres } from './postgres.ts'
import { clock as clockTable } from './schema.ts'
import { param, selected, statement } from './statements.ts'

export interface StoredClock {
  clock: Clock
  /** The bounds for `isInTime` of a decision made now. */
  saveBounds(validUntil: number | undefined): Record<'savedFrom' | 'savedUntil' | 'decidedAt', number | null>
  /** Compares with the database. */
  save(): Promise<void>
  /** Stops comparing with the database. */
  stop(): void
}

/**
 * The store's clock, comparable with those of all instances on the database. Tests inject a time of their own. Without
 * `keepsTime` the stored times are only read.
 */
export const storedClock = (db: Postgres, time: TimeSource, keepsTime: boolean): Promise<StoredClock> =>
  time.isShared ? sharedClock(db, time, keepsTime) : ownClock(db, time, keepsTime)

/** Continues from the stored times, as on SQLite. */
async function ownClock(db: Postgres, source: TimeSource, keepsTime: boolean): Promise<StoredClock> {
  const clock = createClock(source, await find.get(db))
  return {
    clock,
    saveBounds: () => UNBOUNDED,
    async save() {
      if (keepsTime) await write.run(db, { now: clock.now(), steady: clock.steady(), latest: clock.latest() })
    },
    stop() {},
  }
}

const UNBOUNDED = { savedFrom: null, savedUntil: null, decidedAt: null }

const find = statement<LastTimes>('clock', sql`select ${selected(clockTable)} from ${clockTable}`)
const write = statement(
  'clock_write',
  sql`update ${clockTable} set now = ${param('now')}, steady = greatest(steady, ${param('steady')}),
    latest = greatest(latest, ${param('latest')})`,
)

/** Milliseconds between two comparisons with the database's time. */
const COMPARE_MS = 5000
/** If two comparisons, by any instances, are further apart than this by the database's clock, that clock was set. */
const MAX_APART_MS = 3 * COMPARE_MS
/** A comparison that takes longer corrects the wall clock only by more than the wait and a step explain. */
const MAX_WAIT_MS = 250
const STEP_MS = 500
/** A save that takes longer is decided again. A pause that the shared time missed is longer than this. */
const MAX_SAVE_MS = 7500
/** How far two machines' monotonic clocks drift apart. */
const DRIFT = 0.001
/** More than drift alone can put a process ahead of the stored time. */
const LEAD_MS = 100

/**
 * The shared time is the database's wall clock, corrected whenever it is set: the stored `steady`, plus the time since
 * it was stored. Each instance extrapolates it with its own monotonic clock, which no step of any wall clock touches.
 */
async function sharedClock(db: Postgres, { wall, elapsed }: TimeSource, keepsTime: boolean): Promise<StoredClock> {
  /** The shared times and the database's wall clock, each minus this process's own. */
  let offset = Number.NEGATIVE_INFINITY
  let latestOffset = Number.NEGATIVE_INFINITY
  let wallOffset = 0
  /** Upper bound of how far the shared time was ahead of what this process read, and when. */
  let ahead = 0
  let comparedAt = elapsed()
  let isFirst = true

  async function compare(): Promise<Compared> {
    const askedAt = elapsed()
    const row = await (keepsTime ? comparing : reading).get(db, { mine: isFirst ? null : Math.floor(offset + askedAt) })
    if (!row) throw new Error('The table clock has no row')
    const answeredAt = elapsed()
    // The database read its clock before its answer arrived, so each offset is a lower bound, and the largest is the
    // best. If this process was ahead nevertheless, the row has caught up: it never falls behind `mine`.
    offset = Math.max(offset, row.steady - answeredAt)
    ahead = row.steady + (answeredAt - askedAt) - (offset + answeredAt)
    comparedAt = answeredAt
    // From the row: a step or sleep of one machine must not change when tokens expire on the others.
    latestOffset = Math.max(latestOffset, row.latest - answeredAt)
    // An answer that was read late would look like a step.
    const correction = row.now - wall() - wallOffset
    const waited = answeredAt - askedAt
    if (isFirst || waited < MAX_WAIT_MS || Math.abs(correction) > waited + STEP_MS) wallOffset += correction
    isFirst = false
    return row
  }

  if (keepsTime) await untilCorrected(db)
  const first = await compare()
  // Evidence is stamped with a lower bound and aged by an upper one (`behind`): it never looks younger than it is,
  // whichever instance asked LiveKit and whichever admits the callback.
  const source = {
    wall: () => wall() + wallOffset,
    elapsed: () => offset + elapsed(),
    behind: () => ahead + (elapsed() - comparedAt) * DRIFT,
    latest: () => latestOffset + elapsed(),
  }
  const clock = runClock(source, { now: first.before, steady: source.elapsed(), latest: first.latest })
  const once = createSingleFlight<unknown>()
  const save = async () => {
    await once('compare', compare)
  }
  // The wall clock reveals that the machine slept (src/clock.ts); a comparison then tells for how long.
  const timer = setInterval(() => void save().catch(() => {}), COMPARE_MS)
  timer.unref()
  return {
    clock,
    saveBounds: (validUntil) =>
      // If the database's clock reads less than it did at the decision, it was set back.
      validUntil === undefined
        ? UNBOUNDED
        : {
            savedFrom: Math.floor(source.elapsed()) - LEAD_MS,
            savedUntil: validUntil,
            decidedAt: Math.floor(source.wall()),
          },
    save,
    stop: () => clearInterval(timer),
  }
}

/**
 * If the database's clock seems to have been set, waits for a running instance to correct the stored time. If there is
 * none, the difference is the time during which none ran.
 */
async function untilCorrected(db: Postgres): Promise<void> {
  const since = performance.now()
  while (performance.now() - since < 1.2 * COMPARE_MS) {
    const row = await reading.get(db, { mine: null })
    if (!row || row.before === 0 || (row.now >= row.before && row.now - row.before <= MAX_APART_MS)) return
    if (!(await others.get(db))?.areConnected) return
    await delay(100)
  }
}

/** At its start a process has only the connection that asks. */
const others = statement<{ areConnected: boolean }>(
  'others',
  sql`select exists (select from pg_stat_activity where datname = current_database()
    and application_name = current_setting('application_name') and pid <> pg_backend_pid()) as "areConnected"`,
)

interface Compared extends LastTimes {
  /** The database's wall clock at the last comparison. */
  before: number
}

const NOW = sql`floor(extract(epoch from clock_timestamp()) * 1000)::bigint`
const isContinuous = sql`read.now - stored.now between 0 and ${sql.raw(String(MAX_APART_MS))}`
/** The shared time by the database's clock, in a statement that also reads the row; null if that clock may have been set. */
const sharedNow = sql`case when ${NOW} - ${clockTable.now} between 0 and ${sql.raw(String(MAX_APART_MS))}
  then ${clockTable.steady} + ${NOW} - ${clockTable.now} end`
/**
 * Whether a decision is saved within its bounds by the shared time, and soon by the wall clocks too: the shared time
 * misses a pause of all instances, which each of them notices at its own next comparison.
 */
export const isInTime = sql`${param('savedUntil')}::bigint is null or coalesce(
  ${sharedNow} between ${param('savedFrom')} and ${param('savedUntil')}
  and abs(${NOW} - ${param('decidedAt')}::bigint) < ${sql.raw(String(MAX_SAVE_MS))}, false)`
/**
 * After a step of the database's clock, `mine`, the instance's own time, tells how much time has passed. A starting
 * instance has none, and trusts the database's clock. The furthest time wins, so the shared one never goes back.
 */
const compared = (lock: SQL) => sql`
  stored as (select * from ${clockTable} where id = 1 ${lock}),
  read as (select ${NOW} as now from stored offset 0),
  compared as (
    select read.now, stored.now as before,
      greatest(stored.steady, ${param('mine')}::bigint, case
        when ${isContinuous} or ${param('mine')}::bigint is null then stored.steady + greatest(read.now - stored.now, 0)
      end) as steady,
      greatest(read.now, stored.latest + case when ${isContinuous} then read.now - stored.now else 0 end) as latest
    from stored, read)`
const reading = statement<Compared>('clock_read', sql`with ${compared(sql``)} select * from compared`)
const comparing = statement<Compared>(
  'clock_compare',
  sql`with ${compared(sql`for update`)},
    written as (
      update ${clockTable} set now = compared.now, steady = compared.steady, latest = compared.latest
      from compared where ${clockTable.id} = 1)
    select * from compared`,
)
