import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { createGroupCommit } from '../src/store/sqlite/group-commit.ts'
import { openSqlite } from '../src/store/sqlite/sqlite.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'behalf-commit-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function open(hooks: Parameters<typeof createGroupCommit>[1] = {}) {
  const path = join(folder, 'test.db')
  const raw = new Database(path, { timeout: 0 })
  raw.pragma('journal_mode = WAL')
  raw.exec('create table t (id integer primary key)')
  const insert = raw.prepare('insert into t (id) values (?)')
  const other = new Database(path, { timeout: 0 })
  const seenByOther = other.prepare<[], number>('select id from t order by id').pluck()
  return {
    raw,
    other,
    add: (id: number) => void insert.run(id),
    seen: () => seenByOther.all(),
    ...createGroupCommit(raw, hooks),
  }
}

test('a failed write is rolled back without affecting others in its group', async () => {
  const { add, seen, write } = open()
  const outcomes = await Promise.allSettled([
    write(() => add(1)),
    write(() => {
      add(2)
      throw new Error('after a first half')
    }),
    write(() => add(1)),
    write(() => add(3)),
  ])
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled'])
  expect(outcomes[1]).toMatchObject({ reason: { message: 'after a first half' } })
  expect(seen()).toEqual([1, 3])
})

test('writes of one turn share a transaction and see each other in order', async () => {
  const { raw, add, seen, write } = open()
  const count = raw.prepare<[], number>('select count(*) from t').pluck()
  const counted = (id: number) =>
    write(() => {
      add(id)
      expect(seen()).toEqual([])
      return count.get()
    })
  expect(await Promise.all([counted(1), counted(2), counted(3)])).toEqual([1, 2, 3])
  expect(seen()).toEqual([1, 2, 3])
})

test('a write is answered only after it is visible to others', async () => {
  const { add, seen, write } = open()
  for (let id = 1; id <= 20; id++) {
    await write(() => add(id))
    expect(seen()).toHaveLength(id)
  }
})

test('a burst larger than one group is written completely', async () => {
  const { add, seen, write } = open()
  await Promise.all(Array.from({ length: 1300 }, (_, i) => write(() => add(i))))
  expect(seen()).toHaveLength(1300)
})

test('a group whose transaction cannot begin fails as store_unavailable, and the next one works', async () => {
  const { other, add, seen, write } = open()
  other.exec('begin immediate')
  const refused = { reason: { code: 'store_unavailable', details: { retryAfterSeconds: 1 } } }
  expect(await Promise.allSettled([write(() => add(1)), write(() => add(2))])).toMatchObject([refused, refused])
  other.exec('rollback')
  await write(() => add(3))
  expect(seen()).toEqual([3])
})

/** A disk whose `sync` the test ends. */
function slowDisk() {
  const syncs: Array<{ end: () => void; fail: (error: Error) => void }> = []
  return {
    syncs,
    sync: () => new Promise<void>((end, fail) => syncs.push({ end, fail })),
    started: (count: number) => vi.waitFor(() => expect(syncs).toHaveLength(count)),
  }
}

test('a write is answered only after it is on disk, and those that arrive meanwhile share the next sync', async () => {
  const { syncs, sync, started } = slowDisk()
  const { add, seen, write } = open({ wal: { sync, trim: async () => {} } })
  const answered: number[] = []
  const writing = (id: number) => write(() => add(id)).then(() => answered.push(id))
  const first = writing(1)
  await started(1)
  const others = [writing(2), writing(3)]
  await new Promise(setImmediate)
  expect(answered).toEqual([])
  expect(seen()).toEqual([1])
  syncs[0]?.end()
  await first
  await started(2)
  expect(answered).toEqual([1])
  expect(seen()).toEqual([1, 2, 3])
  syncs[1]?.end()
  await Promise.all(others)
  expect(answered).toEqual([1, 2, 3])
  expect(syncs).toHaveLength(2)
})

test('a group that changes nothing is answered without a sync, once what it saw is on disk', async () => {
  const { syncs, sync, started } = slowDisk()
  const saved = vi.fn()
  const { raw, add, write } = open({ wal: { sync, trim: async () => {} }, beforeCommit: saved })
  const count = raw.prepare<[], number>('select count(*) from t').pluck()
  expect(await write(() => count.get())).toBe(0)
  expect(saved).not.toHaveBeenCalled()
  const answered: string[] = []
  const written = write(() => add(1)).then(() => answered.push('written'))
  await started(1)
  const counted = write(() => count.get()).then((found) => answered.push(`counted ${found}`))
  await new Promise(setImmediate)
  expect(answered).toEqual([])
  syncs[0]?.end()
  await Promise.all([written, counted])
  expect(answered).toEqual(['written', 'counted 1'])
  expect(syncs).toHaveLength(1)
  expect(saved).toHaveBeenCalledTimes(1)
})

test('a sync that fails is made up for by copying the log into the database', async () => {
  const { syncs, sync, started } = slowDisk()
  const { raw, add, seen, write } = open({ wal: { sync, trim: async () => {} } })
  const written = write(() => add(1))
  await started(1)
  syncs[0]?.fail(Object.assign(new Error('i/o error'), { code: 'EIO' }))
  await written
  expect(seen()).toEqual([1])
  // Nothing of the log is needed any more, and the next write begins it anew.
  raw.exec('insert into t (id) values (2)')
  expect(raw.pragma('wal_checkpoint(NOOP)')).toMatchObject([{ checkpointed: 0 }])
})

test('writes fail while neither is possible', async () => {
  const { syncs, sync, started } = slowDisk()
  const { other, add, seen, write } = open({ wal: { sync, trim: async () => {} } })
  // A reader of the newest state keeps the log from starting again.
  await Promise.all([write(() => add(1)), started(1).then(() => syncs[0]?.end())])
  other.exec('begin')
  expect(seen()).toEqual([1])
  const failing = write(() => add(2))
  await started(2)
  syncs[1]?.fail(Object.assign(new Error('i/o error'), { code: 'EIO' }))
  await expect(failing).rejects.toMatchObject({ code: 'store_unavailable' })
  await expect(write(() => add(3))).rejects.toMatchObject({ code: 'store_unavailable' })
  other.exec('commit')
  const written = write(() => add(4))
  await started(3)
  syncs[2]?.end()
  await written
  expect(seen()).toEqual([1, 2, 4])
})

test('a disk that does not answer is noticed: writes and what needs them durable are refused', async () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const { syncs, sync, started } = slowDisk()
  const { add, write, durable } = open({ wal: { sync, trim: async () => {} } })
  const waiting = write(() => add(1))
  await started(1)
  vi.advanceTimersByTime(5001)
  await expect(write(() => add(2))).rejects.toMatchObject({ code: 'store_unavailable' })
  await expect(durable()).rejects.toMatchObject({ code: 'store_unavailable' })
  syncs[0]?.end()
  await waiting
  await durable()
})

test('after it is closed, writes are refused', async () => {
  const { add, seen, write, close } = open()
  const before = write(() => add(1))
  const closed = close()
  await expect(write(() => add(2))).rejects.toMatchObject({ code: 'store_unavailable' })
  await Promise.all([before, closed])
  expect(seen()).toEqual([1])
})

test('what is visible but not yet on disk can be waited for', async () => {
  const { syncs, sync, started } = slowDisk()
  const { add, write, durable } = open({ wal: { sync, trim: async () => {} } })
  await durable()
  const written = write(() => add(1))
  await started(1)
  let isDurable = false
  const waited = durable().then(() => {
    isDurable = true
  })
  await new Promise(setImmediate)
  expect(isDurable).toBe(false)
  syncs[0]?.end()
  await Promise.all([written, waited])
})

test('the durability settings apply each time the store is opened', () => {
  const url = `file:${join(folder, 'deep', 'behalf.db')}`
  for (let opening = 0; opening < 2; opening++) {
    const { raw } = openSqlite(url)
    const setting = (name: string) => raw.pragma(name, { simple: true })
    expect(setting('synchronous')).toBe(2)
    expect(setting('journal_mode')).toBe('wal')
    expect(setting('foreign_keys')).toBe(1)
    expect(setting('busy_timeout')).toBe(5000)
    raw.close()
  }
})
