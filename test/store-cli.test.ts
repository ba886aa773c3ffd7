import { copyFileSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { run } from '../src/cli/store.ts'
import { lockStore } from '../src/store/sqlite/lock.ts'
import { openStore, type Store } from '../src/store/store.ts'
import { cliSandbox } from './cli-sandbox.ts'
import { outcomeOf } from './outcome.ts'

let sandbox: ReturnType<typeof cliSandbox>
const opened: Store[] = []
beforeEach(() => {
  sandbox = cliSandbox()
})
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close()
  sandbox.remove()
})

/** The command in this process; what it printed, and its exit code. */
async function command(...args: string[]) {
  const { code, out, err } = await outcomeOf(run, args, { DATABASE_URL: sandbox.databaseUrl })
  return { code, out: out.join('\n'), err: err.join('\n') }
}

async function open(url = sandbox.databaseUrl) {
  const store = await openStore(url)
  opened.push(store)
  return store
}

async function close(store: Store) {
  opened.splice(opened.indexOf(store), 1)
  await store.close()
}

/** A row to find again. */
const remember = (store: Store, value: string) => store.keys.secret('marker', () => value, 0)
const remembered = async (url = sandbox.databaseUrl) => remember(await open(url), 'nothing')
const inFolder = (name: string) => join(sandbox.folder, name)

/** Overwrites the middle of the file, as a failing disk would. */
function damage(path: string) {
  const bytes = readFileSync(path)
  bytes.fill(0xa5, Math.floor(bytes.length / 2), Math.floor(bytes.length / 2) + 8192)
  writeFileSync(path, bytes)
}

test('npm run store checks, backs up and restores', { timeout: 60_000 }, async () => {
  const store = await open()
  await remember(store, 'before')
  const copy = inFolder('copy.db')
  expect(await sandbox.cli('store', 'check', '--json')).toEqual({
    code: 0,
    stdout: '{"ok":true,"problems":[]}\n',
    stderr: '',
  })
  expect(await sandbox.cli('store', 'backup', copy)).toMatchObject({ code: 0, stderr: '' })
  await close(store)
  const restored = await sandbox.cli('store', 'restore', copy, '--json')
  expect(restored).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(restored.stdout)).toMatchObject({ restored: copy, keptAt: expect.stringContaining('x.db.before') })
  expect(await remembered()).toBe('before')
})

describe('store check', () => {
  test('reports damage with exit code 1', async () => {
    await close(await open())
    damage(sandbox.databasePath)
    const { code, out } = await command('check', '--json')
    expect(code).toBe(1)
    expect(JSON.parse(out)).toMatchObject({ ok: false, problems: expect.arrayContaining([expect.any(String)]) })
  })

  test('finds a row with a dangling reference', async () => {
    await open()
    const raw = new Database(sandbox.databasePath)
    raw.pragma('foreign_keys = OFF')
    raw.exec("insert into rooms (name, owner_id, claimed_at, used_at) values ('r', 'user_none', 0, 0)")
    raw.close()
    expect(await command('check')).toMatchObject({
      code: 1,
      out: 'row 1 of rooms refers to a missing row of users',
    })
  })

  test('reports a file that is not a database, not a Behalf store, or missing', async () => {
    expect(await command('check')).toMatchObject({
      code: 1,
      err: expect.stringContaining(`There is no store at ${sandbox.databasePath}:`),
    })
    expect(existsSync(sandbox.databasePath)).toBe(false)
    writeFileSync(sandbox.databasePath, 'not a database at all'.repeat(100))
    expect(await command('check')).toMatchObject({ code: 1, out: 'file is not a database' })
    writeFileSync(sandbox.databasePath, '')
    expect((await command('check')).out).toContain('the table sessions is missing')
  })
})

describe('store backup', () => {
  test('writes one sound file, readable by its owner only, while the service writes', async () => {
    const store = await open()
    await remember(store, 'first')
    const writing = Promise.all(Array.from({ length: 200 }, (_, i) => store.keys.secret(`more ${i}`, () => 'x', 0)))
    const copy = inFolder('copy.db')
    expect(await command('backup', copy)).toMatchObject({ code: 0, err: '' })
    await writing
    expect(statSync(copy).mode & 0o777).toBe(0o600)
    expect(readdirSync(sandbox.folder).filter((name) => name.startsWith('copy'))).toEqual(['copy.db'])
    expect(await remembered(`file:${copy}`)).toBe('first')
  })

  test('never overwrites a file', async () => {
    await open()
    const copy = inFolder('copy.db')
    writeFileSync(copy, 'precious')
    expect(await command('backup', copy)).toMatchObject({ code: 1, err: expect.stringContaining('already exists') })
    expect(readFileSync(copy, 'utf8')).toBe('precious')
    expect((await command('backup', sandbox.databasePath)).code).toBe(1)
  })

  test('refuses a damaged store, and leaves no file', async () => {
    await close(await open())
    damage(sandbox.databasePath)
    expect((await command('backup', inFolder('copy.db'))).code).toBe(1)
    expect(readdirSync(sandbox.folder).filter((name) => name.startsWith('copy'))).toEqual([])
  })
})

describe('store restore', () => {
  async function backedUp() {
    const store = await open()
    await remember(store, 'backed up')
    const copy = inFolder('copy.db')
    expect((await command('backup', copy)).code).toBe(0)
    return { store, copy }
  }

  test('is refused while a service runs, and changes nothing', async () => {
    const { copy } = await backedUp()
    const lock = lockStore(sandbox.databaseUrl)
    const before = readdirSync(sandbox.folder).sort()
    const refused = await command('restore', copy)
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining(`x.db is in use by another service`) })
    expect(refused.err).toContain(String(process.pid))
    expect(readdirSync(sandbox.folder).sort()).toEqual(before)
    lock.release()
  })

  test('is refused while a tool has the file open', async () => {
    const { copy } = await backedUp()
    expect(await command('restore', copy)).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^Another process has/),
    })
    expect(await remembered()).toBe('backed up')
  })

  test('keeps the old file, including its write-ahead log', async () => {
    const { store, copy } = await backedUp()
    await close(store)
    const later = new Database(sandbox.databasePath)
    later.exec("update store_secrets set value = 'later'")
    // As after kill -9: the log has not been folded in.
    for (const suffix of ['', '-wal']) copyFileSync(sandbox.databasePath + suffix, inFolder(`crashed.db${suffix}`))
    later.close()
    for (const suffix of ['', '-wal']) copyFileSync(inFolder(`crashed.db${suffix}`), sandbox.databasePath + suffix)

    const { code, out } = await command('restore', copy, '--json')
    expect(code).toBe(0)
    const { keptAt } = JSON.parse(out)
    expect(await remembered()).toBe('backed up')
    expect(await remembered(`file:${keptAt}`)).toBe('later')
  })

  test('replaces a damaged or missing file with a backup', async () => {
    const { store, copy } = await backedUp()
    await close(store)
    writeFileSync(sandbox.databasePath, 'what is left of it')
    writeFileSync(`${sandbox.databasePath}-wal`, 'and its log')
    const { code, out } = await command('restore', copy, '--json')
    expect(code).toBe(0)
    const { keptAt } = JSON.parse(out)
    expect(readFileSync(keptAt, 'utf8')).toBe('what is left of it')
    expect(readFileSync(`${keptAt}-wal`, 'utf8')).toBe('and its log')
    const restored = await open()
    expect(await remember(restored, 'nothing')).toBe('backed up')
    await close(restored)
  })

  test('refuses an unsound backup, and changes nothing', async () => {
    const { store, copy } = await backedUp()
    await remember(store, 'backed up')
    await close(store)
    writeFileSync(inFolder('text.db'), 'text')
    new Database(inFolder('foreign.db')).exec('create table t (x)').close()
    copyFileSync(copy, inFolder('damaged.db'))
    damage(inFolder('damaged.db'))
    copyFileSync(copy, inFolder('live.db'))
    writeFileSync(inFolder('live.db-wal'), 'a log')
    for (const [name, why] of [
      ['text.db', 'is damaged: file is not a database'],
      ['foreign.db', 'is damaged: the table'],
      ['damaged.db', 'is damaged'],
      ['live.db', 'so it is not a backup'],
      ['missing.db', 'There is no file'],
    ] as const) {
      expect(await command('restore', inFolder(name))).toMatchObject({ code: 1, err: expect.stringContaining(why) })
    }
    expect(readdirSync(sandbox.folder).filter((name) => /before|incoming/.test(name))).toEqual([])
    expect(await remembered()).toBe('backed up')
  })
})

test.each([
  [2, [], /^The commands are check, backup, restore and migrate/],
  [2, ['vacuum'], /^The commands are/],
  [2, ['check', 'x'], /^check takes no file/],
  [2, ['backup'], /^backup takes one file/],
  [2, ['restore', 'a', 'b'], /^restore takes one file/],
  [2, ['check', '--force'], /^Unknown option '--force'/],
])('store exits with %d for %j', async (code, args, line) => {
  expect(await command(...args)).toEqual({ code, out: '', err: expect.stringMatching(line) })
})
