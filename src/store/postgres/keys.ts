import { sql } from 'drizzle-orm'
import { changesOf, type KeyRow, type KeyStore, toStoredKey } from '../keys.ts'
import type { Postgres } from './postgres.ts'
import { signingKeys, storeSecrets } from './schema.ts'
import { insertInto, param, selected, statement } from './statements.ts'

/** The service's own keys in PostgreSQL. */
export function postgresKeys(db: Postgres): KeyStore {
  return {
    signingKeys: async () => (await all.all(db)).map(toStoredKey),
    addFirstSigningKey: (key) =>
      db.transaction(async (on) => {
        await lockTable.run(on)
        if ((await all.all(on)).length === 0) await insert.run(on, { ...key })
      }),
    changeSigningKeys: (change) =>
      db.transaction(async (on) => {
        await lockTable.run(on)
        const { added, changed, removed } = changesOf((await all.all(on)).map(toStoredKey), change)
        for (const { kid } of removed) await remove.run(on, { kid })
        for (const key of changed) await update.run(on, { ...key })
        for (const key of added) await insert.run(on, { ...key })
      }),
    async secret(name, create, now) {
      const known = await findSecret.get(db, { name })
      if (known) return known.value
      const value = create()
      const isNew = (await insertSecret.run(db, { name, value, createdAt: now })) > 0
      return isNew ? value : ((await findSecret.get(db, { name }))?.value ?? value)
    },
  }
}

/** Other transactions may read, not write. */
const lockTable = statement('keys_lock', sql`lock table ${signingKeys} in share row exclusive mode`)
const all = statement<KeyRow>('keys', sql`select ${selected(signingKeys)} from ${signingKeys} order by created_at`)
const insert = statement('key_insert', insertInto(signingKeys))
const update = statement(
  'key_update',
  sql`update ${signingKeys} set signs_from = ${param('signsFrom')}, expires_at = ${param('expiresAt')}
    where kid = ${param('kid')}`,
)
const remove = statement('key_delete', sql`delete from ${signingKeys} where kid = ${param('kid')}`)
const findSecret = statement<{ value: string }>(
  'secret',
  sql`select value from ${storeSecrets} where name = ${param('name')}`,
)
const insertSecret = statement('secret_insert', sql`${insertInto(storeSecrets)} on conflict do nothing`)
