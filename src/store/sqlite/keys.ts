import { asc, eq, getTableColumns, sql } from 'drizzle-orm'
import { changesOf, type KeyStore, toStoredKey } from '../keys.ts'
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
    signingKeys: () => runRead(() => all.all().map(toStoredKey)),
    // The transaction holds the write lock, so no other process can add a key between these two.
    addFirstSigningKey: (key) =>
      write(() => {
        if (all.all().length === 0) insertKey.run({ ...key })
      }),
    changeSigningKeys: (change) =>
      write(() => {
        const { added, changed, removed } = changesOf(all.all().map(toStoredKey), change)
        for (const { kid } of removed) deleteKey.run({ kid })
        for (const key of changed) changeKey.run({ ...key })
        for (const key of added) insertKey.run({ ...key })
      }),
    async secret(name, create, now) {
      const known = await runRead(() => findSecret.get({ name }))
      if (known) return known.value
      const value = create()
      return write(() => (insertSecret.get({ name, value, now }) ?? findSecret.get({ name }))?.value ?? value)
    },
  }
}
