// One instance on SQLite, and one and two on PostgreSQL, beside each other: rounds in turn of POST /token and POST
// /agent/progress, 32 connections in all. Server, database and load share the machine's cores, so only the ratios mean
// something. PostgreSQL is a server of its own, with fsync; the past is copied into it by `behalf store migrate`.
// npm run build && node --import tsx bench/instances.ts [--stores 1e3,1e5] [--rounds 3] [--seconds 3]
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { freeTcpPort, until } from '../test/e2e/processes.ts'
import { startPostgres } from '../test/postgres-server.ts'
import { http } from './cases.ts'
import { startFakeLiveKit } from './fake-livekit.ts'
import { runWrk } from './measure.ts'
import { createPast } from './store.ts'

const { values } = parseArgs({
  options: {
    stores: { type: 'string', default: '1e3,1e5' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
  },
})
const STORES = values.stores.split(',').map(Number)
const [ROUNDS, SECONDS] = [Number(values.rounds), Number(values.seconds)]
const CONNECTIONS = 32
const USERS = 400
const LIVE = 48
const TICK_MICROS = 10_000
const DIST = fileURLToPath(new URL('../dist/', import.meta.url))
const RATE = '100000000'
const SETTINGS = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  HOST: '127.0.0.1',
  PUBLIC_URL: 'http://bench.test',
  LOG_LEVEL: 'warn',
  GUESTS_PER_ADDRESS_PER_HOUR: '1000000',
  REQUESTS_PER_USER_PER_MINUTE: RATE,
  REQUESTS_PER_AGENT_PER_MINUTE: RATE,
  LIVENESS_SECONDS: '60',
  RECONCILE_SECONDS: '300',
}

interface Setup {
  name: string
  instances: Array<{ url: string; process: ChildProcess }>
  requests: Record<'token' | 'progress', string[]>
}

const folder = mkdtempSync(join(tmpdir(), 'behalf-instances-'))
const postgres = await startPostgres()
const children: ChildProcess[] = []
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
  postgres.remove()
  rmSync(folder, { recursive: true, force: true })
})

const cli = (args: string[], env: Record<string, string>) =>
  execFileSync(process.execPath, [join(DIST, 'cli.js'), ...args], { env: { ...SETTINGS, ...env } }).toString()

async function json(url: string, path: string, body: unknown, headers: Record<string, string> = {}) {
  const answer = await fetch(url + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  return (await answer.json()) as Record<string, never>
}

async function setUp(name: string, databaseUrl: string, count: number): Promise<Setup> {
  const livekit = await startFakeLiveKit()
  const env = { ...SETTINGS, DATABASE_URL: databaseUrl, LIVEKIT_URL: livekit.url }
  const instances: Setup['instances'] = []
  for (let i = 0; i < count; i++) {
    const port = await freeTcpPort()
    const child = spawn(process.execPath, [join(DIST, 'server.js')], {
      env: { ...env, PORT: String(port) },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    children.push(child)
    const url = `http://127.0.0.1:${port}`
    await until(`${name} answers`, async () => (await fetch(`${url}/health/ready`)).ok, 60)
    instances.push({ url, process: child })
  }
  const [{ url } = { url: '' }] = instances
  await livekit.sendWebhooks(`${url}/livekit/webhook`)
  const { id, secret } = JSON.parse(cli(['agent', 'create', `bench-${Date.now()}`, '--json'], env))
  const basic = Buffer.from(`${id}:${secret}`).toString('base64')
  const grant = new URLSearchParams({ grant_type: 'client_credentials' })
  const granted = await fetch(`${url}/agent/token`, {
    method: 'POST',
    headers: { Authorization: `Basic ${basic}` },
    body: grant,
  })
  const agentBearer = String(((await granted.json()) as { access_token: string }).access_token)
  const requests: Setup['requests'] = { token: [], progress: [] }
  for (let i = 0; i < USERS; i++) {
    const guest = await json(url, '/auth/guest', {})
    const bearer = String(guest.access_token)
    requests.token.push(http('POST', '/token', { bearer, body: {} }))
    if (i >= LIVE) continue
    const minted = await json(url, '/token', {}, { Authorization: `Bearer ${bearer}` })
    await livekit.join(String(minted.participant_token))
    const pair = { userId: String(minted.participant_identity), sessionId: String(minted.session_id) }
    const data = { text: 'I found three tables for two at eight.' }
    requests.progress.push(http('POST', '/agent/progress', { bearer: agentBearer, body: { ...pair, data } }))
  }
  await delay(1_000)
  return { name, instances, requests }
}

function cpuMicros(pid: number | undefined): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * TICK_MICROS
}

/** Every instance gets its share of the connections, at the same time. */
async function run({ name, instances, requests }: Setup, what: 'token' | 'progress') {
  const pids = instances.map(({ process }) => process.pid)
  const cpu = () => pids.reduce<number>((sum, pid) => sum + cpuMicros(pid), 0)
  const before = cpu()
  const results = await Promise.all(
    instances.map(({ url }, i) =>
      runWrk(url, folder, {
        of: { name: `${what}-${i}` },
        requests: requests[what],
        connections: CONNECTIONS / instances.length,
        seconds: SECONDS,
        pauseMs: 0,
      }),
    ),
  )
  const statuses = new Set(results.flatMap((result) => Object.keys(result.statuses)))
  if ([...statuses].join() !== '201') throw new Error(`${name} ${what}: ${JSON.stringify(results)}`)
  const count = results.reduce((sum, result) => sum + result.requests, 0)
  return {
    perSecond: results.reduce((sum, result) => sum + (result.requests / result.micros) * 1e6, 0),
    p50: Math.max(...results.map((result) => result.p50)) / 1000,
    p99: Math.max(...results.map((result) => result.p99)) / 1000,
    cpuMicros: (cpu() - before) / count,
  }
}

const median = (all: number[]) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN
const print = (line: string) => void process.stdout.write(`${line}\n`)
print(`Node ${process.version}, ${ROUNDS} rounds of ${SECONDS} s, ${CONNECTIONS} connections; medians`)
for (const sessions of STORES) {
  const past = join(folder, `${sessions}.db`)
  await createPast(past, sessions)
  const copies = [`p1_${sessions}`, `p2_${sessions}`]
  for (const copy of copies) {
    execFileSync('psql', ['-q', postgres.url('postgres'), '-c', `create database ${copy}`])
    const startedAt = performance.now()
    cli(['store', 'migrate', '--to', postgres.url(copy)], { DATABASE_URL: `file:${past}` })
    print(`copied ${sessions} sessions in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`)
  }
  const [one = '', two = ''] = copies
  const setups = [
    await setUp('SQLite, 1 instance', `file:${past}`, 1),
    await setUp('PostgreSQL, 1 instance', postgres.url(one), 1),
    await setUp('PostgreSQL, 2 instances', postgres.url(two), 2),
  ]
  for (const what of ['token', 'progress'] as const) {
    const all = new Map<Setup, Array<Awaited<ReturnType<typeof run>>>>()
    for (let round = 0; round <= ROUNDS; round++) {
      for (const setup of setups) {
        const result = await run(setup, what)
        // The first round warms up.
        if (round > 0) all.set(setup, [...(all.get(setup) ?? []), result])
      }
    }
    for (const [{ name }, results] of all) {
      const of = (key: keyof (typeof results)[number]) => median(results.map((result) => result[key]))
      const latency = `p50 ${of('p50').toFixed(1)} ms, p99 ${of('p99').toFixed(1)} ms`
      const rate = `${of('perSecond').toFixed(0)}/s`
      print(
        `${sessions} sessions, ${what}, ${name}: ${rate}, ${latency}, ${of('cpuMicros').toFixed(0)} µs CPU of the service`,
      )
    }
  }
  for (const { instances } of setups) for (const instance of instances) instance.process.kill('SIGKILL')
}
process.exit(0)
