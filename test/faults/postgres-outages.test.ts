import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Socket, connect as tcpConnect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { until } from '../e2e/processes.ts'
import { type PostgresServer, startPostgres } from '../postgres-server.ts'
import { expectAllStored, instanceLoad, type Told } from './instance-load.ts'
import { describeWithPostgres, type Instances, useInstances } from './instances.ts'
import { report } from './size.ts'

const CLIENTS = 4

/** Keeps two instances busy while something happens, and until they answer again; what the clients were told. */
async function under(instances: Instances, happening: () => Promise<unknown>): Promise<Told> {
  const load = await instanceLoad(instances, CLIENTS)
  let running = true
  const loading = load.run(() => running)
  await until('the load is under way', () => load.told.progress.length > 20)
  const pids = instances.all.map(({ service }) => service.pid())
  await happening()
  const recovered = load.told.progress.length + 20
  await until('the load goes on', () => load.told.progress.length > recovered, 60)
  running = false
  await loading
  expect(
    instances.all.map(({ service }) => service.pid()),
    'no instance was restarted',
  ).toEqual(pids)
  await expectAllStored(instances, load.told)
  // Nothing but 503 and cut-off connections; a rate limit or a bug would be something else.
  expect(load.told.failures.filter((failure) => !/ (503|0) /.test(failure))).toEqual([])
  return load.told
}

const figures = ({ calls, attempts, unavailable, failures, progress }: Told) => ({
  calls,
  retries: attempts - calls,
  unavailable,
  refused: failures.length,
  progress: progress.length,
  lost: 0,
})

describeWithPostgres('while PostgreSQL restarts', () => {
  const instances = useInstances({ env: { RECONCILE_SECONDS: '2' } })

  test.each(['fast', 'immediate'] as const)('(%s) requests get 503, and then all is well again', async (mode) => {
    const { postgres } = instances()
    const told = await under(instances(), async () => {
      postgres.stop(mode)
      await delay(1000)
      postgres.start()
    })
    report(`PostgreSQL restarted (${mode})`, figures(told))
  })
})

describeWithPostgres('when the primary server is lost', () => {
  let way: Awaited<ReturnType<typeof tcpSwitch>>
  const instances = useInstances({
    env: { RECONCILE_SECONDS: '2' },
    async through(postgres) {
      way = await tcpSwitch(postgres)
      return way.url
    },
  })
  afterAll(() => way?.close())

  test('its synchronous replica takes over with everything that was acknowledged', async () => {
    const { postgres } = instances()
    const replica = await startPostgres({ replicaOf: postgres })
    onTestFinished(() => replica.remove())
    await ask(postgres, "alter system set synchronous_standby_names = '*'")
    await ask(postgres, 'select pg_reload_conf()')
    await until('the replica is synchronous', async () => {
      const [row] = await ask(postgres, 'select sync_state from pg_stat_replication')
      return row?.sync_state === 'sync'
    })
    const told = await under(instances(), async () => {
      postgres.stop('immediate')
      await ask(replica, 'select pg_promote()')
      await ask(replica, "alter system set synchronous_standby_names = ''")
      await ask(replica, 'select pg_reload_conf()')
      way.to(replica)
    })
    report('failover to a synchronous replica', figures(told))
  })
})

const canMount = mounts()
if (!canMount) console.log('skipped: no file system can be mounted')

describe.skipIf(!canMount)('on a small disk', () => {
  describeWithPostgres('that fills up', () => {
    const disk = mkdtempSync(join(tmpdir(), 'behalf-disk-'))
    // Before that of the instances, and so after it.
    afterAll(() => {
      unmount(disk)
      rmSync(disk, { recursive: true })
    })
    const instances = useInstances({
      env: { RECONCILE_SECONDS: '2' },
      within() {
        mount(disk)
        return disk
      },
    })

    test('writes get 503, and then all is well again', async () => {
      const { postgres } = instances()
      const told = await under(instances(), async () => {
        const ballast = join(disk, 'ballast')
        fill(ballast)
        await delay(4000)
        rmSync(ballast)
        // Without space for its log, PostgreSQL stops; its operator starts it again.
        await ask(postgres, 'select 1').catch(() => postgres.start())
      })
      report('PostgreSQL’s disk full', figures(told))
      expect(told.unavailable).toBeGreaterThan(0)
    })
  })
})

function mount(folder: string): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=160m,mode=1777', 'tmpfs', folder], { stdio: 'ignore' })
}

function unmount(folder: string): void {
  execFileSync('umount', ['-l', folder], { stdio: 'ignore' })
}

/** Whether this user may mount file systems. */
function mounts(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-disk-'))
  try {
    mount(folder)
    unmount(folder)
    return true
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function fill(file: string): void {
  try {
    for (let i = 0; i < 1000; i++) writeFileSync(file, Buffer.alloc(1024 * 1024), { flag: 'a' })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
}

async function ask(server: PostgresServer, query: string) {
  const client = new pg.Client(server.url('postgres'))
  await client.connect()
  try {
    return (await client.query(query)).rows
  } finally {
    await client.end()
  }
}

/** The address of whichever server is the primary, as a proxy or a name that moves would be. */
async function tcpSwitch(first: PostgresServer) {
  let target = new URL(first.url('postgres'))
  const open = new Set<Socket>()
  const proxy = createServer((client) => {
    const server = tcpConnect(Number(target.port), target.hostname)
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      open.add(socket)
      socket
        .on('error', () => {})
        .once('close', () => {
          open.delete(socket)
          other.destroy()
        })
      socket.pipe(other)
    }
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const address = proxy.address()
  const url = new URL(target)
  url.port = String(typeof address === 'object' ? address?.port : '')
  return {
    url: url.href,
    to(server: PostgresServer) {
      target = new URL(server.url('postgres'))
      for (const socket of open) socket.destroy()
    },
    close() {
      proxy.close()
      for (const socket of open) socket.destroy()
    },
  }
}
