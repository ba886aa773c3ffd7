import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import pg from 'pg'
import { afterAll, inject } from 'vitest'
import { isPostgres, type Store } from '../src/store/store.ts'

/** Whether the tests run on PostgreSQL; else on SQLite. */
export const onPostgres = () => Boolean(inject('postgresTemplate'))

/** In memory where possible: what is written has to survive a process, not the machine. */
const FOLDER = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

const stores: Store[] = []
/** URLs of those that this file uses, and of those that a test changed beyond their rows. */
const databases: string[] = []
const spoilt = new Set<string>()
/** Names of emptied ones: making and dropping a database takes far longer than emptying one. */
const free: string[] = []
const folders: string[] = []
let admin: Promise<pg.Client> | undefined
let count = 0

/** The DATABASE_URL of an empty database. One that is to be opened again is a file on SQLite, else in memory. */
export async function newDatabase({ lasts = false } = {}): Promise<string> {
  const template = inject('postgresTemplate')
  if (template) {
    const emptied = free.pop()
    const name = emptied ?? `behalf_${process.pid}_${++count}`
    admin ??= connect(template)
    if (!emptied) await (await admin).query(`create database ${name} template behalf_template`)
    const url = template.replace('behalf_template', name)
    databases.push(url)
    return url
  }
  if (!lasts) return 'file::memory:'
  const folder = mkdtempSync(join(FOLDER, 'behalf-test-'))
  folders.push(folder)
  return `file:${join(folder, 'behalf.db')}`
}

const fileOf = (url: string) => url.slice('file:'.length)

/** Changes the database behind the service's back. */
export async function execute(url: string, statement: string): Promise<void> {
  spoilt.add(url)
  if (isPostgres(url)) await withClient(url, (client) => client.query(statement))
  else new Database(fileOf(url)).exec(statement).close()
}

/** Reads the database as another process does. */
export async function inspect(url: string) {
  if (isPostgres(url)) {
    const client = new pg.Client({ connectionString: url, types: WHOLE_NUMBERS })
    await client.connect()
    return {
      rows: async <Row>(query: string): Promise<Row[]> => (await client.query(query)).rows,
      close: () => client.end(),
    }
  }
  const db = new Database(fileOf(url), { readonly: true })
  return {
    rows: async <Row>(query: string) => db.prepare<[], Row>(query).all(),
    close: async () => void db.close(),
  }
}

/** Numbers, as on SQLite. */
const WHOLE_NUMBERS: pg.CustomTypesConfig = {
  getTypeParser: (oid, format) => (oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format)),
}

/** Every row of every table. */
export async function stored(url: string): Promise<Record<string, unknown[]>> {
  const { rows, close } = await inspect(url)
  const tables = await rows<{ name: string }>(
    isPostgres(url)
      ? "select tablename as name from pg_tables where schemaname = 'public'"
      : "select name from sqlite_master where type = 'table'",
  )
  const all: Record<string, unknown[]> = {}
  for (const { name } of tables) all[name] = await rows(`select * from "${name}" order by 1, 2`)
  await close()
  return all
}

/** Closes the store after the tests of this file. */
export function closeLater<T extends Store>(store: T): T {
  stores.push(store)
  return store
}

export async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(url)
  await client.connect()
  return use(client).finally(() => client.end())
}

async function connect(template: string): Promise<pg.Client> {
  const client = new pg.Client(template.replace('behalf_template', 'postgres'))
  await client.connect()
  return client
}

const EMPTY = `delete from users; delete from agents; delete from agent_refusals; delete from signing_keys;
  delete from store_secrets; delete from webhook_events; delete from rate_windows; delete from turns;
  update clock set now = 0, steady = 0, latest = 0`

/** Closes what the file opened and empties its databases for the next one. Call it once in every file. */
export function cleanUp(): void {
  afterAll(async () => {
    await Promise.all(stores.splice(0).map((store) => store.close()))
    for (const url of databases.splice(0)) {
      if (spoilt.has(url)) continue
      await withClient(url, (client) => client.query(EMPTY))
      free.push(new URL(url).pathname.slice(1))
    }
    await (await admin)?.end()
    admin = undefined
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
  })
}
