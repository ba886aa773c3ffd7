import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import { onTestFinished } from 'vitest'

const MIGRATIONS = fileURLToPath(new URL('../drizzle', import.meta.url))

/** The DATABASE_URL of a store, for this test, as it was before the migration of that name, with these rows. */
export function storeBefore(migration: string, fill: (raw: Database.Database) => void): string {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-older-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const before = join(folder, 'drizzle')
  cpSync(MIGRATIONS, before, { recursive: true })
  const journalFile = join(before, 'meta/_journal.json')
  const journal = JSON.parse(readFileSync(journalFile, 'utf8')) as { entries: { tag: string }[] }
  const index = journal.entries.findIndex(({ tag }) => tag.endsWith(`_${migration}`))
  writeFileSync(journalFile, JSON.stringify({ ...journal, entries: journal.entries.slice(0, index) }))
  const path = join(folder, 'x.db')
  const raw = new Database(path)
  migrate(drizzle(raw), { migrationsFolder: before })
  fill(raw)
  raw.close()
  return `file:${path}`
}
