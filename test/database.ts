import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import pg from 'pg'
import { afterAll, inject } from 'vitest'
import type { Store } from '../src/store/store.ts'

/** Whether the tests run on PostgreSQL; else on SQLite. */
export const onPostgres = () => Boolean(inject('postgresTemplate'))

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
  const folder = mkdtempSync(join(tmpdir(), 'behalf-test-'))
  folders.push(folder)
  return `file:${join(folder, 'behalf.db')}`
}

/** Changes the database behind the service's back. */
export async function execute(url: string, statement: string): Promise<void> {
  spoilt.add(url)
  if (!url.startsWith('file:')) await withClient(url, (client) => client.query(statement))
  else new Database(url.slice('file:'.length)).exec(statement).close()
}

/** Every row of every table, as another process sees them. */
export async function stored(url: string): Promise<Record<string, unknown[]>> {
  if (!url.startsWith('file:')) {
    return withClient(url, async (client) => {
      const tables = await client.query("select tablename as name from pg_tables where schemaname = 'public'")
      const rows: Record<string, unknown[]> = {}
      for (const { name } of tables.rows)
        rows[name] = (await client.query(`select * from "${name}" order by 1, 2`)).rows
      return rows
    })
  }
  const db = new Database(url.slice('file:'.length), { readonly: true })
  const tables = db.prepare("select name from sqlite_master where type = 'table'").pluck().all() as string[]
  const rows = Object.fromEntries(tables.map((table) => [table, db.prepare(`select * from "${table}"`).all()]))
  db.close()
  return rows
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
