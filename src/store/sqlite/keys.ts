import { asc, eq, getTableColumns, sql } from 'drizzle-orm'
import type { KeyStore, StoredKey } from '../keys.ts'
import { runRead, type Write } from './group-commit.ts'
import { signingKeys, storeSecrets } from './schema.ts'
import { type Db, param, values } from './sqlite.ts'

/** The service's own keys in SQLite. */
export function sqliteKeys(db: Db, write: Write): KeyStore {
  const all = db.select().from(signingKeys).orderBy(asc(signingKeys.createdAt)).prepare()
  const insertKey = db
    .insert(signingKeys)
    .values(values(getTableColumns(signingKeys)))
    .prepare()
  const changeKey = db
    .update(signingKeys)
    .set({ signsFrom: sql`${param('signsFrom')}`, expiresAt: sql`${param('expiresAt')}` })
    .where(eq(signingKeys.kid, param('kid')))
    .prepare()
  const deleteKey = db
    .delete(signingKeys)
    .where(eq(signingKeys.kid, param('kid')))
    .prepare()
  const findSecret = db
    .select({ value: storeSecrets.value })
    .from(storeSecrets)
    .where(eq(storeSecrets.name, param('name')))
    .prepare()
  const insertSecret = db
    .insert(storeSecrets)
    .values({ name: param('name'), value: param('value'), createdAt: param('now') })
    .onConflictDoNothing()
    .returning({ value: storeSecrets.value })
    .prepare()
  return {
    signingKeys: () => runRead(() => all.all().map(storedKey)),
    // The transaction holds the write lock, so no other process can add a key between these two.
    addFirstSigningKey: (key) =>
      write(() => {
        if (all.all().length === 0) insertKey.run({ ...key })
      }),
    changeSigningKeys: (change) =>
      write(() => {
        const before = all.all().map(storedKey)
        const after = change(before)
        const has = (keys: StoredKey[], kid: string) => keys.some((key) => key.kid === kid)
        for (const { kid } of before) if (!has(after, kid)) deleteKey.run({ kid })
        for (const key of after) (has(before, key.kid) ? changeKey : insertKey).run({ ...key })
      }),
    async secret(name, create, now) {
      const known = await runRead(() => findSecret.get({ name }))
      if (known) return known.value
      const value = create()
      return write(() => (insertSecret.get({ name, value, now }) ?? findSecret.get({ name }))?.value ?? value)
    },
  }
}

function storedKey(row: typeof signingKeys.$inferSelect): StoredKey {
  if (row.alg !== 'ES256') throw new Error(`The signing key ${row.kid} has the unknown algorithm ${row.alg}`)
  return { ...row, alg: row.alg }
}
