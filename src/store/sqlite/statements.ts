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
 * call, which takes longer than SQLite itself. Only inner joins: drizzle would turn the missing side of others into null.
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
    all: (values?: Values) => (statement.all(bind(values)) as unknown[][]).map((row) => read(row)),
    values: (values?: Values) => statement.all(bind(values)),
  }
}

/** The values of the placeholders in order. Written as code, with the names in it, so that V8 can optimize it. */
function binder(params: readonly unknown[]): (values?: Values) => unknown[] {
  const encoders: Array<(value: unknown) => unknown> = []
  const parts = params.map((param, i) => {
    if (is(param, Placeholder)) return named(param.name)
    if (!is(param, Param) || !is(param.value, Placeholder)) return `params[${i}]`
    const { encoder, value } = param
    if (encoder.mapToDriverValue === Column.prototype.mapToDriverValue) return named(value.name)
    encoders[i] = (decoded) => encoder.mapToDriverValue(decoded)
    return `encoders[${i}](${named(value.name)})`
  })
  return new Function('params', 'encoders', 'given', `return (values = {}) => [${parts}]`)(params, encoders, given)
}

const named = (name: string) => `given(values[${JSON.stringify(name)}], ${JSON.stringify(name)})`

function given(value: unknown, name: string): unknown {
  if (value === undefined) throw new Error(`The statement has no value for ${name}`)
  return value
}

/** Reads a row into its object; also written as code. */
function reader(fields: NonNullable<Fields>): (row: unknown[]) => unknown {
  const decoders: Array<(value: unknown) => unknown> = []
  const groups = new Map<string, string[]>()
  const cells = fields.flatMap(({ path: [name = '', inner], field }, i) => {
    const decoder = (is(field, SQL) ? (field as unknown as { decoder: Decoder }).decoder : field) as Decoder
    const isStoredAsIs = decoder.mapFromDriverValue === Column.prototype.mapFromDriverValue
    if (!isStoredAsIs) decoders[i] = (value) => (value === null ? null : decoder.mapFromDriverValue(value))
    const cell = isStoredAsIs ? `row[${i}]` : `decoders[${i}](row[${i}])`
    if (inner === undefined) return `${JSON.stringify(name)}: ${cell}`
    groups.set(name, [...(groups.get(name) ?? []), `${JSON.stringify(inner)}: ${cell}`])
    return []
  })
  for (const [name, inner] of groups) cells.push(`${JSON.stringify(name)}: { ${inner} }`)
  return new Function('decoders', `return (row) => ({ ${cells} })`)(decoders)
}

type Decoder = DriverValueDecoder<unknown, unknown>
