import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { run as runAgent } from '../src/cli/agent.ts'
import { run as runAudit } from '../src/cli/audit.ts'
import { run as runKeys } from '../src/cli/keys.ts'
import { run as runUser } from '../src/cli/user.ts'
import { lockStore } from '../src/store/sqlite/lock.ts'
import { openStore } from '../src/store/store.ts'
import { outcomeOf } from './outcome.ts'

const MIGRATIONS = fileURLToPath(new URL('../drizzle', import.meta.url))
const TOOLS = { agent: runAgent, audit: runAudit, keys: runKeys, user: runUser }

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'behalf-beside-'))
  path = join(folder, 'x.db')
})
afterEach(() => rmSync(folder, { recursive: true }))

test('a command run with a fast clock does not affect the service’s next start', async () => {
  const url = `file:${path}`
  const service = await openStore(url)
  await service.saveClock()
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 24 * 60 * 60_000 })
  expect(await command('agent create tutor')).toMatchObject({ code: 0 })
  vi.useRealTimers()
  // As after a crash: the service has written nothing since.
  const next = await openStore(url)
  expect(Math.abs(next.clock.steady() - Date.now())).toBeLessThan(60_000)
  await next.close()
  await service.close()
})

/** A command in this process, on the folder's store. */
async function command(line: string, env: Record<string, string> = {}) {
  const [tool = '', ...argv] = line.split(' ')
  const run = TOOLS[tool as keyof typeof TOOLS]
  const { code, out, err } = await outcomeOf(run, argv, { DATABASE_URL: `file:${path}`, ...env })
  return { code, out: out.join(''), err: err.join('') }
}

const refused = (err: RegExp) => ({ code: 1, out: '', err: expect.stringMatching(err) })

/** The store as the version before this one left it. */
function makeOlderStore() {
  const before = join(folder, 'drizzle')
  cpSync(MIGRATIONS, before, { recursive: true })
  const journalFile = join(before, 'meta/_journal.json')
  const journal = JSON.parse(readFileSync(journalFile, 'utf8'))
  writeFileSync(journalFile, JSON.stringify({ ...journal, entries: journal.entries.slice(0, -1) }))
  inDatabase((raw) => migrate(drizzle(raw), { migrationsFolder: before }))
}

function inDatabase<T>(work: (raw: Database.Database) => T): T {
  const raw = new Database(path)
  try {
    return work(raw)
  } finally {
    raw.close()
  }
}

const schema = () => inDatabase((raw) => raw.prepare('select name, sql from sqlite_master order by name').all())

const COMMANDS = [
  'agent list',
  'agent disable tutor',
  'agent rekey tutor',
  'audit agent tutor',
  'keys list',
  'keys rotate',
  'user sign-out ada@example.com',
]

describe('a store that does not exist', () => {
  test.each(COMMANDS)('is not created by %s', async (line) => {
    expect(await command(line)).toEqual(refused(/^There is no store at .*x\.db: check DATABASE_URL/))
    expect(readdirSync(folder)).toEqual([])
  })

  test('is created for the first agent in development, never in production', async () => {
    expect(await command('agent create tutor', { NODE_ENV: 'production' })).toEqual(refused(/^There is no store at/))
    expect(readdirSync(folder)).toEqual([])
    expect(await command('agent create tutor')).toMatchObject({ code: 0, err: '' })
    expect(await command('agent create coach', { NODE_ENV: 'production' })).toMatchObject({ code: 0, err: '' })
    expect((await command('agent list')).out).toMatch(/^tutor .*\ncoach /)
    lockStore(`file:${path}`).release()
  })

  test('is left to the service that is creating it', async () => {
    const lock = lockStore(`file:${path}`)
    expect(await command('agent create tutor')).toEqual(refused(/^A service is still creating .*x\.db/))
    lock.release()
  })

  test('cannot be an in-memory database', async () => {
    expect(await command('agent create tutor', { DATABASE_URL: 'file::memory:' })).toEqual(refused(/in-memory/))
  })
})

describe('a store with another schema version', () => {
  test.each([...COMMANDS, 'agent create tutor'])('is not migrated by %s while the service runs', async (line) => {
    makeOlderStore()
    const before = schema()
    const lock = lockStore(`file:${path}`)
    expect(await command(line)).toEqual(refused(/is in use by an older version of the service/))
    lock.release()
    expect(schema()).toEqual(before)
  })

  test('is migrated while no service runs, and the service can start afterwards', async () => {
    makeOlderStore()
    expect(await command('agent create tutor')).toMatchObject({ code: 0, err: '' })
    const lock = lockStore(`file:${path}`)
    expect((await command('agent list')).out).toMatch(/^tutor {2}enabled/)
    lock.release()
  })

  test('is refused when its schema is newer', async () => {
    await (await openStore(`file:${path}`)).close()
    inDatabase((raw) => raw.exec("insert into __drizzle_migrations (hash, created_at) values ('x', 9e15)"))
    expect(await command('agent list')).toEqual(refused(/belongs to a newer version of the service/))
  })

  test('is refused when it belongs to another program', async () => {
    inDatabase((raw) => raw.exec('create table users (id); create table __drizzle_migrations (id, created_at)'))
    const before = schema()
    expect(await command('agent create tutor')).toEqual(refused(/x\.db is not a store of this service\.$/))
    expect(schema()).toEqual(before)
  })
})
