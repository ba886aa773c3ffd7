// What an open event stream costs the service: opens STREAMS of them over loopback, each on a connection of its own, and
// prints the memory of the service's process per stream, after garbage collection, and its CPU time while all are quiet.
// npx tsx bench/streams.ts
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type ClientRequest, get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startService } from '../src/start.ts'

const STREAMS = 1_000
const PER_USER = 20
const QUIET_SECONDS = 20
const PORT = 18_008
const URL_BASE = `http://127.0.0.1:${PORT}`

interface Usage {
  /** Bytes. */
  rss: number
  heapUsed: number
  external: number
  /** Microseconds since the start of the process. */
  cpu: number
}

function serve(): void {
  const tell = () => {
    globalThis.gc?.()
    globalThis.gc?.()
    const { rss, heapUsed, external } = process.memoryUsage()
    const { user, system } = process.cpuUsage()
    process.send?.({ rss, heapUsed, external, cpu: user + system } satisfies Usage)
  }
  startService({ extend: () => void process.on('message', tell) })
}

async function post(path: string, bearer?: string): Promise<Record<string, unknown>> {
  const answer = await fetch(`${URL_BASE}${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) },
    body: '{}',
  })
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  return (await answer.json()) as Record<string, unknown>
}

/** Resolves when the first bytes have arrived. */
async function openStream(bearer: string, sessionId: string): Promise<ClientRequest> {
  const headers = { Accept: 'text/event-stream', Authorization: `Bearer ${bearer}` }
  const request = get(`${URL_BASE}/sessions/${sessionId}/events`, { headers, agent: false })
  const [response] = await once(request, 'response')
  if (response.statusCode !== 200) throw new Error(`a stream was refused: ${response.statusCode}`)
  await once(response, 'data')
  response.on('error', () => {})
  response.resume()
  return request
}

async function openForNewUser(count: number): Promise<ClientRequest[]> {
  const bearer = String((await post('/auth/guest')).access_token)
  const sessionId = String((await post('/token', bearer)).session_id)
  return Promise.all(Array.from({ length: count }, () => openStream(bearer, sessionId)))
}

async function usageOf(server: ChildProcess): Promise<Usage> {
  server.send('usage')
  const [usage] = await once(server, 'message', { signal: AbortSignal.timeout(10_000) })
  return usage
}

async function untilReady(): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const answer = await fetch(`${URL_BASE}/health/ready`).catch(() => undefined)
    if (answer?.ok) return
    await delay(50)
  }
  throw new Error('the service did not become ready')
}

async function measure(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-bench-'))
  const server = fork(fileURLToPath(import.meta.url), ['serve'], {
    execArgv: ['--expose-gc', '--import', 'tsx'],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: {
      HOST: '127.0.0.1',
      PORT: String(PORT),
      DATABASE_URL: `file:${join(folder, 'bench.db')}`,
      // Nothing listens there, and nothing here needs LiveKit.
      LIVEKIT_URL: 'ws://127.0.0.1:2',
      LOG_LEVEL: 'silent',
      GUESTS_PER_ADDRESS_PER_HOUR: '1000',
    },
  })
  try {
    await untilReady()
    // A first round, so that compiled code and caches do not count.
    for (const request of await openForNewUser(PER_USER)) request.destroy()
    await delay(2_000)
    const before = await usageOf(server)
    for (let opened = 0; opened < STREAMS; opened += PER_USER) await openForNewUser(PER_USER)
    await delay(2_000)
    const open = await usageOf(server)
    await delay(QUIET_SECONDS * 1_000)
    const later = await usageOf(server)
    const kilobytes = (field: 'rss' | 'heapUsed' | 'external') =>
      `${((later[field] - before[field]) / STREAMS / 1024).toFixed(1)} kB`
    const cpu = (((later.cpu - open.cpu) / 1e6 / QUIET_SECONDS) * 100).toFixed(1)
    process.stdout.write(
      `${[
        `${STREAMS} open streams, Node ${process.version}`,
        `per stream: ${kilobytes('rss')} RSS, ${kilobytes('heapUsed')} heap, ${kilobytes('external')} external`,
        `all quiet for ${QUIET_SECONDS} s: ${cpu} % of one CPU`,
      ].join('\n')}\n`,
    )
  } finally {
    server.kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  }
}

if (process.argv[2] === 'serve') serve()
else {
  await measure()
  // Ignores the errors of streams that are cut at the end.
  process.exit(0)
}
