import { fillPlaceholders, getTableColumns, type SQL, type SQLChunk, sql } from 'drizzle-orm'
import { PgDialect, type PgTable } from 'drizzle-orm/pg-core'
import type { Connection } from './postgres.ts'

const dialect = new PgDialect()

/** A named value of a statement. */
export const param = (name: string) => sql.placeholder(name)

type Values = Record<string, unknown>

export interface Statement<Row> {
  all(on: Connection, values?: Values): Promise<Row[]>
  get(on: Connection, values?: Values): Promise<Row | undefined>
  /** Returns the number of rows that it inserted, changed or deleted. */
  run(on: Connection, values?: Values): Promise<number>
}

/** A statement that each connection prepares at its first use under this name. */
export function statement<Row = unknown>(name: string, query: SQL): Statement<Row> {
  const { sql: text, params } = dialect.sqlToQuery(query)
  const run = async (on: Connection, values: Values = {}) => {
    const filled = fillPlaceholders(params, values)
    // PostgreSQL stores no NUL, so nothing matches one.
    if (filled.some((value) => typeof value === 'string' && value.includes('\0'))) return { rows: [], rowCount: 0 }
    return on.query<Row>({ name, text, values: filled })
  }
  return {
    all: async (on, values) => (await run(on, values)).rows,
    get: async (on, values) => (await run(on, values)).rows[0],
    run: async (on, values) => (await run(on, values)).rowCount,
  }
}

/** Runs a statement that is not worth preparing; returns the number of rows that it changed. */
export async function runOnce(on: Connection, query: SQL): Promise<number> {
  const { sql: text, params } = dialect.sqlToQuery(query)
  return (await on.query({ text, values: params })).rowCount
}

/** The table's columns that a statement may set, by their names in the code. */
export const columnsOf = (table: PgTable) =>
  Object.entries(getTableColumns(table)).filter(([, column]) => !column.generated && !column.generatedIdentity)

const listed = (parts: SQLChunk[]): SQL => sql.join(parts, sql`, `)

const columnsBut = (table: PgTable, omitted: string[]) => columnsOf(table).filter(([name]) => !omitted.includes(name))

/** A select list that reads rows as the objects of the code. */
export const selected = (table: PgTable, ...omitted: string[]): SQL =>
  listed(columnsBut(table, omitted).map(([name, column]) => sql`${column} as ${sql.identifier(name)}`))

/** The same as one JSON object. */
export const asJson = (table: PgTable, ...omitted: string[]): SQL =>
  sql`json_build_object(${listed(columnsBut(table, omitted).map(([name, column]) => sql`${sql.raw(`'${name}'`)}, ${column}`))})`

/** The columns' names alone, as `insert` and `update` want them. */
export const names = (table: PgTable): SQL => listed(columnsOf(table).map(([, { name }]) => sql.identifier(name)))

/** Inserts one row, with a named value for each column. */
export const insertInto = (table: PgTable): SQL =>
  sql`insert into ${table} (${names(table)}) values (${listed(columnsOf(table).map(([name]) => param(name)))})`

/** Rows as one JSON value, for `json_populate_recordset`. */
export function recordset(table: PgTable): (rows: readonly object[]) => string {
  const columns = columnsOf(table)
  const toRecord = (row: object) =>
    Object.fromEntries(columns.map(([name, column]) => [column.name, (row as Values)[name]]))
  return (rows) => JSON.stringify(rows.map(toRecord))
}
