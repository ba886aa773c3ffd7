import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readMigrationFiles } from 'drizzle-orm/migrator'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { openStore } from '../../src/store/store.ts'
import { closeLater, execute, withClient } from '../database.ts'
import { type PostgresServer, startPostgres } from '../postgres-server.ts'
import { scene } from '../scene.ts'
import { post } from '../support.ts'

const STORE = new URL('../../dist/store/store.js', import.meta.url).href

// A server of their own, which they stop, and which is as durable as a real one.
let server: PostgresServer
beforeAll(async () => {
  server = await startPostgres()
}, 60_000)
afterAll(() => server?.remove())

async function createDatabase(name: string): Promise<string> {
  await execute(server.url('postgres'), `create database ${name}`)
  return server.url(name)
}

/** Resolves when the process has opened and closed the store on that database. */
async function opensStore(url: string): Promise<number> {
  const script = `const { openStore } = await import('${STORE}'); await (await openStore('${url}')).close()`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const [code] = await once(child, 'exit')
  return code
}

test('three processes that start together on an empty database migrate it once', async () => {
  const url = await createDatabase('together')
  expect(await Promise.all([opensStore(url), opensStore(url), opensStore(url)])).toEqual([0, 0, 0])
  await withClient(url, async (client) => {
    const { rows } = await client.query('select count(*)::int as applied from __behalf_migrations')
    expect(rows).toEqual([{ applied: readMigrationFiles({ migrationsFolder: 'drizzle/postgres' }).length }])
  })
}, 60_000)

test('a role’s weaker synchronous_commit is raised, and a stronger one stays', async () => {
  const url = await createDatabase('commits')
  const asked = async () => {
    const store = await openStore(url, { poolSize: 1 })
    // The store's own connection writes: what it commits with is what the log would show.
    await withClient(url, (client) => client.query('create table if not exists seen (setting text)'))
    await execute(
      url,
      `create or replace function note() returns trigger language plpgsql as $$ begin
         insert into seen values (current_setting('synchronous_commit')); return new; end $$;
       create or replace trigger noted before insert on store_secrets for each row execute function note()`,
    )
    await store.keys.secret(`name-${Math.random()}`, () => 'x', 1)
    await store.close()
    return withClient(url, async (client) => (await client.query('select setting from seen')).rows.at(-1)?.setting)
  }
  await execute(server.url('postgres'), 'alter database commits set synchronous_commit = off')
  expect(await asked()).toBe('on')
  await execute(server.url('postgres'), 'alter database commits set synchronous_commit = remote_apply')
  expect(await asked()).toBe('remote_apply')
})

describe('a service whose database fails', () => {
  async function calling(name: string) {
    const s = await scene({ databaseUrl: await createDatabase(name) })
    const agent = await s.newAgent()
    const { pair } = await s.present()
    const report = (key: string) =>
      post(s.app, '/agent/progress', { ...pair, data: { key } }, agent.bearer, { 'Idempotency-Key': key })
    expect((await report('first')).status).toBe(201)
    return { s, pair, report }
  }

  test('recovers when its connections are cut, and answers 503 for what was under way', async () => {
    const { s, pair, report } = await calling('cut')
    await withClient(server.url('postgres'), (admin) =>
      admin.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'cut'"),
    )
    const statuses = new Set<number>()
    await vi.waitFor(async () => {
      const answer = await report('second')
      statuses.add(answer.status)
      expect(answer.status).toBe(201)
    })
    expect([...statuses].filter((status) => status !== 201 && status !== 503)).toEqual([])
    const events = await s.store.events.page(pair.sessionId, 0, 100)
    expect(events.filter(({ type }) => type === 'progress').map(({ data }) => data)).toEqual([
      { key: 'first' },
      { key: 'second' },
    ])
  })

  test('answers 503 while the server is down, is not ready, and recovers without a restart', async () => {
    const { s, report } = await calling('down')
    s.health.ready = true
    expect((await s.app.request('/health/ready')).status).toBe(200)
    server.stop('immediate')
    try {
      const answer = await report('second')
      expect(answer.status).toBe(503)
      expect(answer.headers.get('Retry-After')).toBe('1')
      expect(await answer.json()).toMatchObject({ code: 'store_unavailable' })
      expect((await s.app.request('/health/ready')).status).toBe(503)
      await expect(openStore(server.url('down'))).rejects.toThrow(
        /^DATABASE_URL: postgres:\/\/127\.0\.0\.1:\d+\/down cannot be used \(ECONNREFUSED\): no server/,
      )
    } finally {
      server.start()
    }
    await vi.waitFor(async () => expect((await report('second')).status).toBe(201), { timeout: 20_000, interval: 200 })
    expect((await s.app.request('/health/ready')).status).toBe(200)
  }, 60_000)

  test('answers 503 when the database is read-only', async () => {
    const { report } = await calling('readonly')
    await execute(server.url('postgres'), 'alter database readonly set default_transaction_read_only = on')
    await withClient(server.url('postgres'), (admin) =>
      admin.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'readonly'"),
    )
    await vi.waitFor(async () => {
      const answer = await report('second')
      expect(answer.status).toBe(503)
      expect(await answer.json()).toMatchObject({ code: 'store_unavailable' })
    })
  })
})

test('an unusable database is refused in one sentence without the password', async () => {
  const url = server.url('nowhere').replace('behalf@', 'behalf:s3cret@')
  const refusal = openStore(url).then(
    () => 'opened',
    (error: Error) => error.message,
  )
  expect(await refusal).toMatch(
    /^DATABASE_URL: postgres:\/\/127\.0\.0\.1:\d+\/nowhere cannot be used \(3D000\): the database does not exist/,
  )
  expect(await refusal).not.toContain('s3cret')
})

test('a store that stays closed is closed once', async () => {
  const store = closeLater(await openStore(await createDatabase('closed')))
  await store.close()
  await expect(store.sessions.find('sess_1')).rejects.toMatchObject({ code: 'store_unavailable' })
})
