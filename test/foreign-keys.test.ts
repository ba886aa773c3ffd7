import { expect, test } from 'vitest'
import { openStore } from '../src/store/store.ts'
import { inspect, newDatabase, onPostgres } from './database.ts'

/** Each column that refers to another table, and whether an index begins with it. */
const REFERENCES = {
  sqlite: `select tables.name as "table", f."from" as "column", exists (
      select 1 from pragma_index_list(tables.name) as i, pragma_index_info(i.name) as c
      where not i.partial and c.seqno = 0 and c.name = f."from") as "isIndexed"
    from sqlite_master as tables, pragma_foreign_key_list(tables.name) as f where tables.type = 'table'`,
  postgres: `select conrelid::regclass::text as "table", attname as "column", exists (
      select from pg_index where indrelid = conrelid and indkey[0] = conkey[1] and indpred is null) as "isIndexed"
    from pg_constraint join pg_attribute on attrelid = conrelid and attnum = any(conkey) where contype = 'f'`,
}

test('deleting a row reads no other table whole to find what refers to it', async () => {
  const url = await newDatabase({ lasts: true })
  await (await openStore(url)).close()
  const { rows, close } = await inspect(url)
  const references = await rows<{ table: string; column: string; isIndexed: number | boolean }>(
    REFERENCES[onPostgres() ? 'postgres' : 'sqlite'],
  )
  await close()
  expect(references.map(({ table }) => table)).toEqual(
    expect.arrayContaining(['sessions', 'presences', 'events', 'idempotency_keys', 'audit_entries', 'rooms']),
  )
  expect(references.filter(({ isIndexed }) => !isIndexed)).toEqual([])
})
