import type Database from 'better-sqlite3'
import { Column, type DriverValueDecoder, is, Param, Placeholder, type Query, SQL } from 'drizzle-orm'
import { BetterSQLite3Database, BetterSQLiteSession } from 'drizzle-orm/better-sqlite3'
import { SQLiteSyncDialect } from 'drizzle-orm/sqlite-core'

export type Db = BetterSQLite3Database

type Session = BetterSQLiteSession<Record<string, never>, Record<string, never>>
type PrepareQuery = Session['prepareQuery']
type Fields = Parameters<PrepareQuery>[1]
type Values = Record<string, unknown>

/** Drizzle over an open database. */
export function createDb(raw: Database.Database): Db {
  const dialect = new SQLiteSyncDialect()
  const session: Session = new BetterSQLiteSession(raw, dialect, undefined)
  const prepareQuery = session.prepareQuery.bind(session)
  session.prepareQuery = ((query, fields, ...rest) =>
    Object.assign(
      prepareQuery(query, fields, ...rest),
      compiled(raw.prepare(query.sql), query, fields),
    )) as PrepareQuery
  return new BetterSQLite3Database('sync', dialect, session, undefined)
}

/**
 * A prepared query's own methods. How values are bound and rows are read is decided once; drizzle decides it at every
 * call, which takes longer than SQLite itself. Joins must be inner ones: no part of a row is turned into null.
 */
function compiled(statement: Database.Statement<unknown[]>, { params }: Query, fields: Fields) {
  const bind = binder(params)
  if (!fields) {
    return {
      run: (values?: Values) => statement.run(bind(values)),
      get: (values?: Values) => statement.get(bind(values)),
      all: (values?: Values) => statement.all(bind(values)),
    }
  }
  const read = reader(fields)
  statement.raw()
  return {
    run: (values?: Values) => statement.run(bind(values)),
    get(values?: Values) {
      const row = statement.get(bind(values)) as unknown[] | undefined
      return row && read(row)
    },
    all: (values?: Values) => (statement.all(bind(values)) as unknown[][]).map(read),
    values: (values?: Values) => statement.all(bind(values)),
  }
}

function binder(params: readonly unknown[]): (values?: Values) => unknown[] {
  const bound = params.map((param): { name?: string; encode?: (value: unknown) => unknown; constant?: unknown } => {
    if (is(param, Placeholder)) return { name: param.name }
    if (!is(param, Param) || !is(param.value, Placeholder)) return { constant: param }
    const { encoder } = param
    // As with reading, most columns store their values as they are.
    if (encoder.mapToDriverValue === Column.prototype.mapToDriverValue) return { name: param.value.name }
    return { name: param.value.name, encode: (value) => encoder.mapToDriverValue(value) }
  })
  return (values = {}) => {
    const args: unknown[] = []
    // Loops here and below, because they run for every value that is bound or read.
    for (let i = 0; i < bound.length; i++) {
      const { name, encode, constant } = bound[i] as (typeof bound)[number]
      const value = name === undefined ? constant : values[name]
      if (value === undefined) throw new Error(`The statement has no value for ${name}`)
      args.push(encode ? encode(value) : value)
    }
    return args
  }
}

function reader(fields: NonNullable<Fields>): (row: unknown[]) => Values {
  const cells = fields.map(({ path: [name = '', inner], field }) => ({ name, inner, decode: decoderOf(field) }))
  return (row) => {
    const result: Values = {}
    for (let i = 0; i < cells.length; i++) {
      const { name, inner, decode } = cells[i] as (typeof cells)[number]
      const value = decode && row[i] !== null ? decode(row[i]) : row[i]
      if (inner === undefined) result[name] = value
      else result[name] = { ...(result[name] as Values), [inner]: value }
    }
    return result
  }
}

/** Undefined for a column whose values are stored as they are. */
function decoderOf(field: unknown): ((value: unknown) => unknown) | undefined {
  const decoder = (is(field, SQL) ? (field as unknown as { decoder: Decoder }).decoder : field) as Decoder
  if (decoder.mapFromDriverValue === Column.prototype.mapFromDriverValue) return undefined
  return (value) => decoder.mapFromDriverValue(value)
}

type Decoder = DriverValueDecoder<unknown, unknown>
