import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { run } from '../../src/cli/store.ts'
import { lockStore } from '../../src/store/sqlite/lock.ts'
import { openStore } from '../../src/store/store.ts'
import { closeLater, execute, newDatabase } from '../database.ts'
import { outcomeOf } from '../outcome.ts'
import { scene } from '../scene.ts'

/** A SQLite store with something in every table that a call fills, its service stopped. */
async function filledStore() {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-migrate-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const databaseUrl = `file:${join(folder, 'behalf.db')}`
  const s = await scene({ databaseUrl })
  const agent = await s.newAgent()
  const { pair, user } = await s.present()
  const data = { z: 1, a: ['ü', '\u2028', '\u0000', '"\\'], n: 1e21 }
  await s.progress(agent.bearer, pair, {}, data)
  await s.background.idle()
  await s.store.close()
  return { folder, databaseUrl, pair, user, data }
}

const migrate = async (from: string, to: string) => {
  const { code, out, err } = await outcomeOf(run, ['migrate', '--to', to, '--json'], { DATABASE_URL: from })
  return { code, out: out.join('\n'), err: err.join('\n') }
}

test('a SQLite store is copied into an empty database, which returns the same', async () => {
  const { databaseUrl, pair } = await filledStore()
  const to = await newDatabase()
  const { code, out, err } = await migrate(databaseUrl, to)
  expect({ code, err }).toEqual({ code: 0, err: '' })
  const { copied } = JSON.parse(out)
  const rows = Object.fromEntries(copied.map(({ table, rows }: { table: string; rows: number }) => [table, rows]))
  expect(rows).toMatchObject({ users: 1, refresh_families: 1, agents: 1, sessions: 1, presences: 1, clock: 1 })
  expect(rows.events).toBeGreaterThan(1)

  const before = await openStore(databaseUrl)
  const after = closeLater(await openStore(to))
  for (const [one, other] of [
    [before.sessions.load(pair.sessionId), after.sessions.load(pair.sessionId)],
    [before.events.page(pair.sessionId, 0, 100), after.events.page(pair.sessionId, 0, 100)],
    [before.agents.listAgents(), after.agents.listAgents()],
    [before.keys.signingKeys(), after.keys.signingKeys()],
    [before.users.findUser(pair.userId), after.users.findUser(pair.userId)],
    [before.audit.ofSession(pair.sessionId, 10), after.audit.ofSession(pair.sessionId, 10)],
  ]) {
    expect(await other).toEqual(await one)
  }
  expect(after.clock.steady()).toBeGreaterThanOrEqual(before.clock.steady() - 60_000)
  await before.close()
})

test('nothing is copied into a database that has rows, or while a service runs', async () => {
  const { databaseUrl } = await filledStore()
  const to = await newDatabase()
  const lock = lockStore(databaseUrl)
  expect(await migrate(databaseUrl, to)).toMatchObject({ code: 1, err: expect.stringContaining('is in use') })
  lock.release()
  await execute(to, "insert into store_secrets values ('x', 'y', 1)")
  expect(await migrate(databaseUrl, to)).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^postgres:\/\/[^ ]* is not empty: the table store_secrets has rows\.$/),
  })
  const store = closeLater(await openStore(to))
  expect(await store.agents.listAgents()).toEqual([])
})

test('a copy that differs is undone', async () => {
  const { databaseUrl } = await filledStore()
  const to = await newDatabase()
  await execute(
    to,
    `create function lose() returns trigger language plpgsql as $$ begin new.data = '{}'; return new; end $$;
     create trigger losing before insert on events for each row execute function lose()`,
  )
  expect(await migrate(databaseUrl, to)).toMatchObject({
    code: 1,
    err: 'The copy of the table events differs from the original. Nothing was copied.',
  })
  await execute(to, 'drop trigger losing on events')
  expect(await migrate(databaseUrl, to)).toMatchObject({ code: 0 })
})
