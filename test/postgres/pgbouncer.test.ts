import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { openStore } from '../../src/store/store.ts'
import { closeLater, newDatabase, withClient } from '../database.ts'
import { freeTcpPort } from '../e2e/processes.ts'
import { callingScene } from '../scene.ts'

const program = ['/usr/sbin', ...(process.env.PATH ?? '').split(':')]
  .map((folder) => join(folder, 'pgbouncer'))
  .find(existsSync)
if (!program) console.log('skipped: no pgbouncer')

const SHARED = /^postgres:\/\/127\.0\.0\.1:\d+\/\w+ is a pooler that shares connections between clients/

describe.skipIf(!program && process.env.BEHALF_REQUIRE_ALL !== '1')('behind PgBouncer', () => {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-pgbouncer-'))
  let pooler: ChildProcess
  /** The database by way of one that PgBouncer names after the pool_mode. */
  let by: (poolMode: string) => string

  beforeAll(async () => {
    const own = await newDatabase()
    await withClient(own, (client) => client.query('create database pooled'))
    const { hostname, port } = new URL(own)
    const listenPort = await freeTcpPort()
    const database = `host=${hostname} port=${port} dbname=pooled`
    writeFileSync(join(folder, 'users.txt'), '"behalf" ""\n')
    writeFileSync(
      join(folder, 'pgbouncer.ini'),
      `[databases]
${['session', 'transaction', 'statement'].map((mode) => `${mode} = ${database} pool_mode=${mode}`).join('\n')}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listenPort}
unix_socket_dir =
auth_type = trust
auth_file = ${join(folder, 'users.txt')}
`,
    )
    chmodSync(folder, 0o755)
    // It refuses root, too.
    const asUser = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
    pooler = spawn(program ?? 'pgbouncer', ['-q', join(folder, 'pgbouncer.ini')], { stdio: 'ignore', ...asUser })
    by = (poolMode) => `postgres://behalf@127.0.0.1:${listenPort}/${poolMode}`
    await vi.waitUntil(() => withClient(by('session'), async () => true).catch(() => pooler.exitCode !== null), {
      timeout: 10_000,
    })
  })
  afterAll(async () => {
    if (pooler?.exitCode === null && pooler.kill()) await once(pooler, 'exit')
    rmSync(folder, { recursive: true, force: true })
  })

  test('instances start, share what is stored and hear of each other when pool_mode is session', async () => {
    const { s, agent, pair } = await callingScene({ databaseUrl: by('session') })
    const other = closeLater(await openStore(by('session'), { poolSize: 2 }))
    let heard = false
    onTestFinished(
      other.events.subscribe(pair.sessionId, () => {
        heard = true
      }),
    )
    const report = async () => (await s.progress(agent.bearer, pair)).status
    expect(await Promise.all(Array.from({ length: 20 }, report))).toEqual(Array(20).fill(201))
    // Until the other one listens, notices are lost.
    await vi.waitUntil(async () => (await report()) === 201 && heard, { timeout: 10_000 })
    const types = (await other.events.page(pair.sessionId, 0, 100)).map(({ type }) => type)
    expect(types.filter((type) => type === 'progress').length).toBeGreaterThan(20)
  })

  test.each(['transaction', 'statement'])('a store is refused when pool_mode is %s', async (poolMode) => {
    await expect(openStore(by(poolMode))).rejects.toThrow(SHARED)
  })

  test('a store is refused while other clients keep the pool busy, too', async () => {
    let isBusy = true
    const clients = Array.from({ length: 10 }, () =>
      withClient(by('transaction'), async (client) => {
        while (isBusy) await client.query('select pg_sleep(0.001)')
      }),
    )
    try {
      for (let i = 0; i < 20; i++) await expect(openStore(by('transaction'))).rejects.toThrow(SHARED)
    } finally {
      isBusy = false
      await Promise.all(clients)
    }
  })
})
