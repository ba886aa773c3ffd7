import { sql } from 'drizzle-orm'
import { type Clock, createClock, type LastTimes, type TimeSource } from '../../clock.ts'
import { names, type Postgres, placeholders, selected, statement } from './postgres.ts'
import { clock as clockTable } from './schema.ts'

/** The store's clock, which continues from the last time that was stored, and a function that stores it. */
export async function storedClock(db: Postgres, source: TimeSource): Promise<{ clock: Clock; save(): Promise<void> }> {
  const clock = createClock(source, await find.get(db))
  return {
    clock,
    async save() {
      await write.run(db, { id: 1, now: clock.now(), steady: clock.steady(), latest: clock.latest() })
    },
  }
}

const find = statement<LastTimes>('clock', sql`select ${selected(clockTable)} from ${clockTable}`)
const write = statement(
  'clock_write',
  sql`insert into ${clockTable} as stored (${names(clockTable)}) values (${placeholders(clockTable)})
    on conflict (id) do update set now = excluded.now, steady = greatest(stored.steady, excluded.steady),
      latest = greatest(stored.latest, excluded.latest)`,
)
