import { sql } from 'drizzle-orm'
import { type Clock, createClock, type TimeSource } from '../../clock.ts'
import { clock as clockTable } from './schema.ts'
import type { Db } from './sqlite.ts'

/** The store's clock, which continues from the last write, and a function that saves it. */
export function storedClock(db: Db, source: TimeSource): { clock: Clock; save: () => void } {
  const stored = db.select().from(clockTable).get()
  const clock = createClock(source, stored)
  const placeholder = {
    now: sql.placeholder('now'),
    steady: sql.placeholder('steady'),
    latest: sql.placeholder('latest'),
  }
  const later = (column: string) => sql.raw(`max(${column}, excluded.${column})`)
  const save = db
    .insert(clockTable)
    .values({ id: 1, ...placeholder })
    // A command writes while the service runs, with a clock of its own.
    .onConflictDoUpdate({
      target: clockTable.id,
      set: { now: sql.raw('excluded.now'), steady: later('steady'), latest: later('latest') },
    })
    .prepare()
  return {
    clock,
    save: () => void save.run({ now: clock.now(), steady: clock.steady(), latest: clock.latest() }),
  }
}
