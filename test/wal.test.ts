import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, onTestFinished, test } from 'vitest'
import { createGroupCommit } from '../src/store/sqlite/group-commit.ts'
import { openSqlite } from '../src/store/sqlite/sqlite.ts'
import { takeOverWal } from '../src/store/sqlite/wal.ts'

const MAX_PAGES = 40

function open() {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-wal-'))
  const path = join(folder, 'test.db')
  const { raw } = openSqlite(`file:${path}`)
  raw.exec('create table t (id integer primary key, data text)')
  const wal = takeOverWal(raw, MAX_PAGES)
  if (!wal) throw new Error('a file has a WAL')
  const { write } = createGroupCommit(raw, { wal })
  const reader = new Database(path, { readonly: true })
  const insert = raw.prepare('insert into t (data) values (?)')
  const pages = raw.prepare<[], { log: number }>('PRAGMA wal_checkpoint(NOOP)')
  const count = reader.prepare<[], number>('select count(*) from t').pluck()
  onTestFinished(async () => {
    await wal.close()
    reader.close()
    raw.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return {
    reader,
    /** Each row fills a page of the WAL. */
    add: () => write(() => void insert.run('x'.repeat(4000))),
    pages: () => pages.get()?.log ?? 0,
    rows: () => count.get(),
  }
}

test('the WAL starts again when it has been copied, while writes go on', async () => {
  const { add, pages, rows } = open()
  let longest = 0
  let restarts = 0
  for (let i = 1; i <= 500; i++) {
    const before = pages()
    await add()
    if (pages() < before) restarts++
    longest = Math.max(longest, pages())
    expect(rows()).toBe(i)
  }
  expect(restarts).toBeGreaterThan(2)
  // A few rows more are written while the first copy is under way.
  expect(longest).toBeLessThan(500)
})

test('a reader of an old state delays that, and no write fails or waits for it', async () => {
  const { reader, add, pages, rows } = open()
  await add()
  reader.exec('begin')
  expect(rows()).toBe(1)
  for (let i = 0; i < 100; i++) await add()
  expect(rows()).toBe(1)
  expect(pages()).toBeGreaterThan(100)
  reader.exec('commit')
  expect(rows()).toBe(101)
  for (let i = 0; i < 400 && pages() > 100; i++) await add()
  expect(pages()).toBeLessThan(100)
})
