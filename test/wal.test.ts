import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, onTestFinished, test } from 'vitest'
import { createGroupCommit } from '../src/store/sqlite/group-commit.ts'
import { openSqlite } from '../src/store/sqlite/sqlite.ts'
import { takeOverWal } from '../src/store/sqlite/wal.ts'

const MAX_PAGES = 40
/** As built: a thread of the real service. */
const STORE = new URL('../dist/store/store.js', import.meta.url).href

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

test('the WAL starts again when it has been copied, while writes go on', { timeout: 30_000 }, async () => {
  const { add, pages, rows } = open()
  // How many rows that takes depends on how soon the copying thread gets to run.
  for (let row = 1, restarts = 0; restarts < 3; row++) {
    const before = pages()
    await add()
    if (pages() < before) restarts++
    expect(rows()).toBe(row)
  }
})

test('a reader of an old state delays that, and no write fails or waits for it', { timeout: 30_000 }, async () => {
  const { reader, add, pages, rows } = open()
  await add()
  reader.exec('begin')
  expect(rows()).toBe(1)
  for (let i = 0; i < 100; i++) await add()
  expect(rows()).toBe(1)
  expect(pages()).toBeGreaterThan(100)
  reader.exec('commit')
  expect(rows()).toBe(101)
  while (pages() > 100) await add()
})

test('the process may end, and the WAL is gone, once the store is closed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-wal-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'disk'))
  writeFileSync(join(folder, 'disk', 'real.db'), '')
  // Through a link, as on a disk that is mounted elsewhere.
  symlinkSync(join(folder, 'disk', 'real.db'), join(folder, 'behalf.db'))
  const script = `
    const { openStore } = await import(${JSON.stringify(STORE)})
    const store = await openStore('file:${join(folder, 'behalf.db')}')
    const user = { id: 'user_1', email: null, name: null, passwordHash: null, createdAt: 1 }
    await store.users.insertUser(user)
    for (let i = 0; i < 22; i++) await Promise.all(Array.from({ length: 128 }, (_, j) => store.rooms.claim('r'.repeat(3000) + i + '-' + j, 'user_1', 0, 1e9)))
    await store.close()
    await store.close()
    console.log('closed')`
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  })
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'closed\n', stderr: '' })
  expect(readdirSync(join(folder, 'disk'))).toEqual(['real.db'])
})
