// What clients that never read their answers cost the service. Each attack opens connections, sends 8 pipelined requests on
// each, from half-time on one more a second, and reads nothing; the last attack reads every answer and asks again at once.
// Prints the service's memory, and how long /health/live and POST /agent/progress take meanwhile, without and with the
// limits of production. The attacker runs on the same machine and takes its share of the processor.
// npm run build && node --import tsx bench/unread-answers.ts
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startSfu } from '../test/sfu.ts'

interface Attack {
  name: string
  connections: number
  users: number
  /** The path to read; default: the users' events. */
  path?: string
  reads?: true
}

const ATTACKS: Attack[] = [
  { name: 'one user', connections: 16, users: 1 },
  { name: 'one user', connections: 150, users: 1 },
  { name: 'one user', connections: 1_000, users: 1 },
  { name: '60 users', connections: 1_000, users: 60 },
  { name: '/docs, not signed in', connections: 1_000, users: 1, path: '/docs' },
  { name: 'one user, reading', connections: 16, users: 1, reads: true },
]
const PIPELINED = 8
/** Together 1 MiB per user. */
const EVENTS = 18
const EVENT_BYTES = 60_000
const SECONDS = 12
const HEAP_MB = 400
/** The service is killed beyond this, to protect the machine. */
const MAX_RSS_MB = 2_500
const PORT = 18_009
const URL_BASE = `http://127.0.0.1:${PORT}`
/** Differs from the attacker's, so that the attacker's limits do not apply to the others. */
const OTHERS_ADDRESS = '127.0.0.2'
const DIST = fileURLToPath(new URL('../dist/', import.meta.url))
const PRODUCTION_LIMITS = { CONNECTIONS_PER_ADDRESS: '256', READS_PER_USER_PER_MINUTE: '600' }
const run = promisify(execFile)

interface Call {
  method?: string
  bearer?: string
  body?: unknown
  agent?: Agent
  localAddress?: string
}

/** Rejects for any answer that is not 2xx. */
async function call(path: string, options: Call = {}): Promise<Record<string, unknown>> {
  const { method = 'POST', bearer, body, agent, localAddress = OTHERS_ADDRESS } = options
  const sent = request(`${URL_BASE}${path}`, {
    method,
    headers: { 'Content-Type': 'application/json', ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) },
    localAddress,
    ...(agent ? { agent } : {}),
  })
  sent.end(body === undefined ? undefined : JSON.stringify(body))
  const [answer] = (await once(sent, 'response')) as [IncomingMessage]
  const answered = (await json(answer)) as Record<string, unknown>
  if (answer.statusCode === undefined || answer.statusCode >= 300) throw new Error(`${path}: ${answer.statusCode}`)
  return answered
}

async function untilReady(): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (await call('/health/ready', { method: 'GET' }).catch(() => undefined)) return
    await delay(50)
  }
  throw new Error('the service did not become ready')
}

async function rssMegabytes({ pid }: ChildProcess): Promise<number> {
  const { stdout } = await run('ps', ['-o', 'rss=', '-p', String(pid)]).catch(() => ({ stdout: '' }))
  return Math.round(Number(stdout) / 1024)
}

/** The attack's users with 1 MiB of events each, another user, and an agent whose calls for all of them are live. */
async function people(users: number, env: Record<string, string>, userJoins: (joinToken: string) => void) {
  const { stdout } = await run(process.execPath, [join(DIST, 'cli.js'), 'agent', 'create', 'bench', '--json'], { env })
  const { id, secret } = JSON.parse(stdout) as { id: string; secret: string }
  const signedIn = await fetch(`${URL_BASE}/agent/token`, {
    method: 'POST',
    headers: { Authorization: `Basic ${btoa(`${id}:${secret}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })
  const bearerOfAgent = String(((await signedIn.json()) as Record<string, unknown>).access_token)
  async function present() {
    const guest = await call('/auth/guest', { body: {} })
    const bearer = String(guest.access_token)
    const joined = await call('/token', { bearer, body: {} })
    userJoins(String(joined.participant_token))
    return { bearer, pair: { userId: (guest.user as { id: string }).id, sessionId: String(joined.session_id) } }
  }
  async function withEvents() {
    const user = await present()
    const body = { ...user.pair, data: { text: 'x'.repeat(EVENT_BYTES) } }
    for (let i = 0; i < EVENTS; i++) await call('/agent/progress', { bearer: bearerOfAgent, body })
    return user
  }
  const attackers = await Promise.all(Array.from({ length: users }, withEvents))
  return { attackers, bearerOfAgent, other: await present() }
}

/** Opens connections in groups, so that none waits in the accept queue; reads from none. */
async function attack(
  sockets: Socket[],
  requests: string[],
  connections: number,
  isOver: () => boolean,
): Promise<void> {
  const requestOf = (index: number) => requests[index % requests.length] ?? ''
  while (sockets.length < connections && !isOver()) {
    const first = sockets.length
    const some = Array.from({ length: Math.min(100, connections - first) }, () =>
      connect(PORT, '127.0.0.1')
        .on('error', () => {})
        .pause(),
    )
    sockets.push(...some)
    await Promise.all(some.map((socket) => new Promise((done) => socket.once('connect', done).once('close', done))))
    for (const [index, socket] of some.entries()) socket.write(requestOf(first + index).repeat(PIPELINED))
  }
  await delay(SECONDS * 500)
  while (!isOver()) {
    for (const [index, socket] of sockets.entries()) if (socket.writable) socket.write(requestOf(index))
    await delay(1_000)
  }
}

async function readOn(path: string, bearer: string, isOver: () => boolean): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  while (!isOver()) {
    await call(path, { method: 'GET', bearer, agent, localAddress: '127.0.0.1' }).catch(() => delay(10))
  }
  agent.destroy()
}

/** Sends requests one after the other; returns their p50, p99 and longest time in milliseconds. */
async function probe(ask: () => Promise<unknown>, isOver: () => boolean): Promise<string> {
  const durations: number[] = []
  let failed = 0
  while (!isOver()) {
    const startedAt = performance.now()
    await Promise.race([ask().catch(() => failed++), delay(10_000)])
    durations.push(performance.now() - startedAt)
    await delay(5)
  }
  durations.sort((a, b) => a - b)
  const last = durations.length - 1
  const [p50, p99, max] = [0.5, 0.99, 1].map((share) => (durations[Math.floor(last * share)] ?? 0).toFixed(0))
  return `${p50} / ${p99} / ${max}${failed > 0 ? `, ${failed} of ${durations.length} failed` : ''}`
}

async function measure(
  { name, connections, users, path, reads }: Attack,
  limits: Record<string, string>,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-bench-'))
  const sfu = await startSfu()
  const env = {
    HOST: '127.0.0.1',
    PORT: String(PORT),
    DATABASE_URL: `file:${join(folder, 'bench.db')}`,
    LIVEKIT_URL: sfu.url,
    LOG_LEVEL: 'silent',
    GUESTS_PER_ADDRESS_PER_HOUR: '1000',
    ...limits,
  }
  const program = [`--max-old-space-size=${HEAP_MB}`, join(DIST, 'server.js')]
  const server = spawn(process.execPath, program, { env, stdio: 'ignore' })
  const sockets: Socket[] = []
  const agent = new Agent({ keepAlive: true, maxSockets: 4 })
  try {
    await untilReady()
    const { attackers, bearerOfAgent, other } = await people(users, env, (joinToken) => void sfu.join(joinToken))
    const paths = attackers.map(({ bearer, pair }) => {
      return { bearer, path: path ?? `/sessions/${pair.sessionId}/events?limit=1000` }
    })
    const head = ({ bearer, path }: { bearer: string; path: string }) =>
      `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${bearer}\r\n\r\n`
    const before = await rssMegabytes(server)
    let highest = before
    const endsAt = performance.now() + SECONDS * 1_000
    const isGone = () => server.exitCode !== null || server.signalCode !== null
    const isOver = () => performance.now() >= endsAt || isGone()
    const body = { ...other.pair, data: { step: 1 } }
    const probes = Promise.all([
      probe(() => call('/health/live', { method: 'GET', agent }), isOver),
      probe(() => call('/agent/progress', { bearer: bearerOfAgent, body, agent }), isOver),
    ])
    const attacking = reads
      ? Promise.all(
          Array.from({ length: connections }, () => readOn(paths[0]?.path ?? '', paths[0]?.bearer ?? '', isOver)),
        )
      : attack(sockets, paths.map(head), connections, isOver)
    while (!isOver()) {
      highest = Math.max(highest, await rssMegabytes(server))
      if (highest > MAX_RSS_MB) server.kill('SIGKILL')
      await delay(100)
    }
    const [live, progress] = await probes
    await attacking
    return `| ${name} | ${connections} | ${before} | ${highest}${isGone() ? ', ended' : ''} | ${live} | ${progress} |`
  } finally {
    for (const socket of sockets) socket.destroy()
    agent.destroy()
    server.kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  }
}

for (const limits of [{}, PRODUCTION_LIMITS]) {
  const named = Object.entries(limits).map((setting) => setting.join('='))
  process.stdout.write(
    `${[
      '',
      `${named.join(' ') || 'No limits, as in development'}; ${SECONDS} s, Node ${process.version}, heap limit ${HEAP_MB} MB`,
      '',
      '| attack | connections | RSS before, MB | highest RSS, MB | /health/live p50 / p99 / max, ms | POST /agent/progress, ms |',
      '|---|---|---|---|---|---|',
    ].join('\n')}\n`,
  )
  for (const attack of ATTACKS) process.stdout.write(`${await measure(attack, limits)}\n`)
}
process.exit(0)
