import { mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { lockStore, StoreInUse } from '../src/store/sqlite/lock.ts'
import { openStore } from '../src/store/store.ts'
import { type RunningProcess, run, until } from './e2e/processes.ts'

const LOCK = fileURLToPath(new URL('../dist/store/sqlite/lock.js', import.meta.url))

let folder: string
let other: RunningProcess | undefined
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'behalf-lock-')))
})
afterEach(async () => {
  await other?.stop('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

/** Another process that takes the lock and prints its id; a refusal as its message. */
function lockElsewhere(url: string): RunningProcess {
  const script = `import { lockStore } from ${JSON.stringify(LOCK)}
    try { globalThis.held = lockStore(${JSON.stringify(url)}); console.log('held by', process.pid, '.') } catch (error) {
      console.log('refused:', error.message) }
    setInterval(() => {}, 1000)`
  const args = ['--input-type=module', '-e', script]
  other = run(process.execPath, args)
  return other
}

const heldBy = async (process: RunningProcess) =>
  Number(await until('it has the lock', () => /held by (\d+) \./.exec(process.log())?.[1]))

test('a store’s lock is refused while another process holds it, naming the file and that process', async () => {
  const url = `file:${join(folder, 'x.db')}`
  const pid = await heldBy(lockElsewhere(url))
  expect(() => lockStore(url)).toThrow(StoreInUse)
  expect(() => lockStore(url)).toThrow(`${join(folder, 'x.db')} is in use by another service (process ${pid}).`)
})

test('a store’s lock is free again after kill -9', async () => {
  const url = `file:${join(folder, 'x.db')}`
  const holder = lockElsewhere(url)
  await heldBy(holder)
  await holder.stop('SIGKILL')
  lockStore(url).release()
})

test('a store’s lock is refused under any path to the file until it is released', async () => {
  const url = `file:${join(folder, 'x.db')}`
  await (await openStore(url)).close()
  symlinkSync(join(folder, 'x.db'), join(folder, 'link.db'))
  const lock = lockStore(url)
  const refused = lockElsewhere(`file:${join(folder, 'link.db')}`)
  await until('it is refused', () => refused.log().includes(`refused: ${join(folder, 'link.db')} is in use`))
  expect(refused.log()).toContain(`(process ${process.pid})`)
  lock.release()
  const next = lockStore(url)
  expect(() => lockStore(url)).toThrow(StoreInUse)
  next.release()
})

test('a store’s lock does not stop command-line tools from reading and writing', async () => {
  const url = `file:${join(folder, 'x.db')}`
  const lock = lockStore(url)
  const store = await openStore(url)
  const tool = await openStore(url)
  await tool.keys.secret('name', () => 'value', 0)
  expect(await store.keys.secret('name', () => 'another', 0)).toBe('value')
  await tool.close()
  await store.close()
  lock.release()
})

test('an in-memory store needs no lock', () => {
  const locks = [lockStore('file::memory:'), lockStore('file::memory:')]
  for (const lock of locks) lock.release()
})
