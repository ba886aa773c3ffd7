import { expect, test, vi } from 'vitest'
import { openStore } from '../../src/store/store.ts'
import { closeLater, newDatabase, withClient } from '../database.ts'
import { guestInSession, ORPHANING_WRITES, outcomeOf } from '../orphans.ts'

const WAITING = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`

test.each(Object.entries(ORPHANING_WRITES))(
  'another instance may be deleting what %s would belong to: that is an outcome, not a violated constraint',
  async (_, { write, outcome }) => {
    const url = await newDatabase()
    const store = closeLater(await openStore(url, { poolSize: 4 }))
    const known = await guestInSession(store)
    await withClient(url, async (other) => {
      await other.query('begin; delete from users')
      const written = outcomeOf(write(store, known))
      // By another connection: a transaction sees the activity of its first look.
      const waiting = () => withClient(url, async (watching) => (await watching.query(WAITING)).rowCount)
      await vi.waitFor(async () => expect(await waiting()).toBeGreaterThan(0), { timeout: 4000 })
      await other.query('commit')
      expect(await written).toEqual(outcome)
    })
  },
)

test('each table whose rows belong to others has such a test', async () => {
  const owned = await withClient(await newDatabase(), (client) =>
    client.query("select distinct conrelid::regclass::text as name from pg_constraint where contype = 'f' order by 1"),
  )
  const tested = Object.values(ORPHANING_WRITES).flatMap(({ tables }) => tables)
  expect(owned.rows.map(({ name }) => name)).toEqual(tested.sort())
})
