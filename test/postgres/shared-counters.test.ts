import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openStore } from '../../src/store/store.ts'
import { closeLater, execute, newDatabase, withClient } from '../database.ts'

/** Two instances on one database. */
async function twoStores() {
  const url = await newDatabase()
  const open = async () => closeLater(await openStore(url, { poolSize: 6 }))
  return { url, stores: [await open(), await open()] as const }
}

const rows = (url: string, query: string) => withClient(url, async (client) => (await client.query(query)).rows)

const MINUTE = { name: 'limit', count: 10, windowSeconds: 60 }

test('two instances admit a quota together, to the last one', async () => {
  const { stores } = await twoStores()
  const counters = stores.map((store) => store.counters(MINUTE))
  const standings = await Promise.all(Array.from({ length: 40 }, (_, i) => counters[i % 2]?.count('key')))
  expect(standings.filter((standing) => standing?.allowed)).toHaveLength(10)
  expect(standings.map((standing) => standing?.remaining).sort()).toEqual(
    [9, 8, 7, 6, 5, 4, 3, 2, 1, ...Array(31).fill(0)].sort(),
  )
  for (const standing of standings) expect(standing?.resetSeconds).toBeGreaterThan(50)
  expect(await counters[0]?.count('another')).toMatchObject({ allowed: true, remaining: 9 })
})

test('a count given back or reset by one instance is free for the other', async () => {
  const { stores } = await twoStores()
  const [one, two] = stores.map((store) => store.counters({ ...MINUTE, count: 2 }))
  if (!one || !two) throw new Error('There are no counters')
  for (let i = 0; i < 5; i++) await one.count('key')
  expect((await two.count('key')).allowed).toBe(false)
  await two.giveBack('key')
  await two.giveBack('key')
  expect(await one.count('key')).toMatchObject({ allowed: true, remaining: 0 })
  expect(await two.isCounted('key')).toBe(true)
  await one.reset('key')
  expect(await two.isCounted('key')).toBe(false)
  expect(await two.count('key')).toMatchObject({ allowed: true, remaining: 1 })
})

test('a large quota is shared in blocks: never exceeded, and all but a block of it can be used', async () => {
  const { url, stores } = await twoStores()
  const quota = { ...MINUTE, count: 1000 }
  const counters = stores.map((store) => store.counters(quota))
  let admitted = 0
  for (let i = 0; i < 1500; i++) if ((await counters[i % 3 === 0 ? 1 : 0]?.count('key'))?.allowed) admitted += 1
  expect(admitted).toBeLessThanOrEqual(1000)
  expect(admitted).toBeGreaterThanOrEqual(990)
  await Promise.all(Array.from({ length: 500 }, () => counters[0]?.count('other')))
  const [row] = await rows(url, 'select count from rate_windows order by count limit 1')
  expect(row).toEqual({ count: 500 })
})

test('a window ends by the database’s clock, also one from a time when that clock was ahead', async () => {
  const { url, stores } = await twoStores()
  const counter = stores[0].counters({ ...MINUTE, count: 1 })
  for (const shift of ["- interval '61 s'", "+ interval '1 day'"]) {
    await counter.count('key')
    expect((await counter.count('key')).allowed).toBe(false)
    await execute(url, `update rate_windows set ends_at = ends_at ${shift}`)
    expect(await counter.count('key')).toMatchObject({ allowed: true, resetSeconds: 60 })
    await counter.reset('key')
  }
})

test('ended windows are deleted', async () => {
  const { url, stores } = await twoStores()
  const counter = stores[0].counters(MINUTE)
  for (let i = 0; i < 150; i++) await counter.count(`key ${i}`)
  await execute(url, "update rate_windows set ends_at = now() - interval '1 s'")
  for (let i = 0; i < 100; i++) await counter.count('another')
  await expect.poll(() => rows(url, 'select 1 as one from rate_windows')).toHaveLength(1)
})

test('one of two instances gets each turn, and the other learns when the next one is', async () => {
  const { url, stores } = await twoStores()
  const turns = await Promise.all(stores.map((store) => store.takeTurn('work', 60_000)))
  const [taken, left = 0] = turns.sort((a, b) => a - b)
  expect(taken).toBe(0)
  expect(left).toBeGreaterThan(55_000)
  expect(await stores[0].takeTurn('other work', 60_000)).toBe(0)
  await execute(url, "update turns set next_at = now() + interval '1 day'")
  expect(await stores[1].takeTurn('work', 60_000), 'the database’s clock was set back').toBe(0)
  const wait = await stores[0].takeTurn('other work', 50)
  expect(wait).toBe(0)
  await delay(60)
  expect(await stores[1].takeTurn('other work', 50)).toBe(0)
})
