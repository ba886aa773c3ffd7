import type Database from 'better-sqlite3'
import { is, Param, Placeholder, type Query } from 'drizzle-orm'
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
  }
}

/** The values of the placeholders in order. Written as code, with the names in it, so that V8 can optimize it. */
function binder(params: readonly unknown[]): (values?: Values) => unknown[] {
  const parts = params.map((param, i) => {
    const value = is(param, Param) ? param.value : param
    return is(value, Placeholder) ? named(value.name) : `params[${i}]`
  })
  return new Function('params', 'given', `return (values = {}) => [${parts}]`)(params, given)
}

const named = (name: string) => `given(values[${JSON.stringify(name)}], ${JSON.stringify(name)})`

function given(value: unknown, name: string): unknown {
  if (value === undefined) throw new Error(`The statement has no value for ${name}`)
  return value
}

/** Reads a row into its object; also written as code. No column of the schema maps the values that SQLite stores. */
function reader(fields: NonNullable<Fields>): (row: unknown[]) => unknown {
  const groups = new Map<string, string[]>()
  const cells = fields.flatMap(({ path: [name = '', inner] }, i) => {
    if (inner === undefined) return `${JSON.stringify(name)}: row[${i}]`
    groups.set(name, [...(groups.get(name) ?? []), `${JSON.stringify(inner)}: row[${i}]`])
    return []
  })
  for (const [name, inner] of groups) cells.push(`${JSON.stringify(name)}: { ${inner} }`)
  return new Function(`return (row) => ({ ${cells} })`)()
}
