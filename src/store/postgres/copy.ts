import { hash } from 'node:crypto'
import Database from 'better-sqlite3'
import { getTableName } from 'drizzle-orm'
import type { PgTable } from 'drizzle-orm/pg-core'
import type pg from 'pg'
import { OperatorError } from '../../errors.ts'
import { assertCurrent } from '../sqlite/command-store.ts'
import { lockStore } from '../sqlite/lock.ts'
import { existing } from '../sqlite/maintenance.ts'
import { openPostgres, shown } from './postgres.ts'
import * as schema from './schema.ts'
import { columnsOf } from './statements.ts'

/** Rows per statement. */
const BATCH = 200

/** Referenced tables first. */
const TABLES: readonly PgTable[] = [
  schema.users,
  schema.refreshFamilies,
  schema.refreshTokens,
  schema.signingKeys,
  schema.storeSecrets,
  schema.agents,
  schema.rooms,
  schema.sessions,
  schema.presences,
  schema.finishedRooms,
  schema.events,
  schema.idempotencyKeys,
  schema.auditEntries,
  schema.agentRefusals,
  schema.jobs,
  schema.webhookEvents,
  schema.clock,
]

/** How much of a table was copied; the checksum is the same in both stores. */
export interface Copied {
  table: string
  rows: number
  /** SHA-256 of each row, combined by XOR, hex. */
  checksum: string
}

/**
 * Copies a SQLite store into an empty PostgreSQL database, in one transaction, and compares what PostgreSQL then returns.
 * @throws StoreInUse while a service runs on the file; OperatorError when the database is not empty or differs. Then
 * nothing was copied.
 */
export async function copyToPostgres(from: string, to: string): Promise<Copied[]> {
  const path = existing(from)
  const lock = lockStore(from)
  try {
    assertCurrent(path)
    const db = await openPostgres(to, 1, 'when empty')
    const client = await db.connect()
    const raw = new Database(path, { readonly: true })
    try {
      await client.query('begin')
      await assertEmpty(client, to)
      const copied: Copied[] = []
      for (const table of TABLES) copied.push(await copyTable(raw, client, table))
      await client.query('commit')
      await client.query('analyze')
      return copied
    } finally {
      raw.close()
      await client.end()
      await db.close()
    }
  } finally {
    lock.release()
  }
}

async function assertEmpty(client: pg.Client, url: string): Promise<void> {
  // An empty store has one too.
  await client.query('delete from clock')
  for (const table of TABLES) {
    const name = getTableName(table)
    await client.query(`lock table "${name}" in access exclusive mode`)
    const { rows } = await client.query(`select from "${name}" limit 1`)
    if (rows.length > 0) throw new OperatorError(`${shown(url)} is not empty: the table ${name} has rows.`)
  }
}

async function copyTable(raw: Database.Database, client: pg.Client, table: PgTable): Promise<Copied> {
  const name = getTableName(table)
  const columns = columnsOf(table).map(([, column]) => column)
  // The columns that both stores have: users.sessions_version is PostgreSQL's alone.
  const stored = raw.pragma(`table_info("${name}")`) as Array<{ name: string }>
  const shared = columns.filter((column) => stored.some((one) => one.name === column.name))
  const list = shared.map((column) => `"${column.name}"`).join(', ')
  const read = raw.prepare<[], Record<string, unknown>>(`select ${list} from "${name}"`)
  const written = createChecksum()
  let batch: Array<Record<string, unknown>> = []
  const flush = async () => {
    await client.query(
      `insert into "${name}" (${list}) select ${list} from json_populate_recordset(null::"${name}", $1)`,
      [JSON.stringify(batch)],
    )
    batch = []
  }
  for (const row of read.iterate()) {
    for (const { name, dataType } of shared) if (dataType === 'boolean') row[name] = row[name] === 1
    written.add(Object.values(row))
    batch.push(row)
    if (batch.length === BATCH) await flush()
  }
  if (batch.length > 0) await flush()

  const found = createChecksum()
  await client.query(`declare copied no scroll cursor for select ${list} from "${name}"`)
  for (;;) {
    const { rows } = await client.query({ text: `fetch ${BATCH} from copied`, rowMode: 'array' })
    for (const row of rows) found.add(row)
    if (rows.length < BATCH) break
  }
  await client.query('close copied')
  const [expected, actual] = [written.result(), found.result()]
  if (expected.rows !== actual.rows || expected.checksum !== actual.checksum) {
    throw new OperatorError(`The copy of the table ${name} differs from the original. Nothing was copied.`)
  }
  return { table: name, ...actual }
}

/** The order of the rows does not matter. */
function createChecksum() {
  const sum = Buffer.alloc(32)
  let rows = 0
  return {
    add(values: unknown[]) {
      rows += 1
      const bytes = hash('sha256', JSON.stringify(values), 'buffer')
      for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) ^ (bytes[i] ?? 0)
    },
    result: () => ({ rows, checksum: sum.toString('hex') }),
  }
}
