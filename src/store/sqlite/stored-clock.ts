import { type Clock, createClock, type TimeSource } from '../../clock.ts'
import { clock as clockTable } from './schema.ts'
import { type Db, values } from './sqlite.ts'

/** The store's clock, which continues from the last write, and a function that saves it. */
export function storedClock(db: Db, source: TimeSource): { clock: Clock; save: () => void } {
  const stored = db.select().from(clockTable).get()
  const clock = createClock(source, stored)
  const times = values({ now: clockTable.now, steady: clockTable.steady, latest: clockTable.latest })
  const save = db
    .insert(clockTable)
    .values({ id: 1, ...times })
    .onConflictDoUpdate({ target: clockTable.id, set: times })
    .prepare()
  return {
    clock,
    save: () => void save.run({ now: clock.now(), steady: clock.steady(), latest: clock.latest() }),
  }
}
