// What open event streams cost the service, and how soon an event reaches them all: opens STREAMS of them over loopback,
// each on a connection of its own and of a session of its own. Prints the memory of the service's process per stream, after
// garbage collection; the same for a bare node:http server that only keeps its answers open; the service's CPU time while
// all are quiet; and the time from a commit to the last delivery.
// npm run build && node --import tsx bench/streams.ts [streams, 10000]
// Needs as many file descriptors in this process and in the service's: ulimit -n 20000
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Service } from '../src/start.ts'

const STREAMS = Number(process.argv[2]) || 10_000
/** The service's limits: pending sessions, and streams. */
const SESSIONS_PER_USER = 10
const STREAMS_PER_USER = 20
const QUIET_SECONDS = 20
const ROUNDS = 20
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

/** Milliseconds since the epoch, of any process. */
const now = () => performance.timeOrigin + performance.now()

function usage(): Usage {
  globalThis.gc?.()
  globalThis.gc?.()
  const { rss, heapUsed, external } = process.memoryUsage()
  const { user, system } = process.cpuUsage()
  return { rss, heapUsed, external, cpu: user + system }
}

let joins = 0

/** Stores one event in each of these sessions, at once; when the first was asked for, and when the last was committed. */
async function storeEvents({ sessions }: Service, ids: string[]): Promise<[startedAt: number, committedAt: number]> {
  const sid = `PA_${joins++}`
  const startedAt = now()
  const isJoin = joins % 2 === 1
  await Promise.all(
    ids.map((id) => {
      const about = { sid: isJoin ? sid : `PA_${joins - 2}`, roomSid: 'RM_1', at: Date.now() }
      return sessions.observe(
        { session: id },
        isJoin ? { kind: 'joined', ...about } : { kind: 'left', reason: 'CLIENT_INITIATED', aborted: false, ...about },
      )
    }),
  )
  return [startedAt, now()]
}

async function serve(): Promise<void> {
  const { startService } = await import('../dist/start.js' as string)
  startService({
    extend(service: Service) {
      process.on('message', async (ids: string[] | null) => {
        process.send?.(ids === null ? usage() : await storeEvents(service, ids))
      })
    },
  })
}

/** What Node itself needs for an answer that stays open. */
function serveBare(): void {
  createServer((_, outgoing) => {
    outgoing.writeHead(200, { 'Content-Type': 'text/event-stream' })
    outgoing.write('retry: 1000\n\n')
  }).listen(PORT, '127.0.0.1')
  process.on('message', () => process.send?.(usage()))
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

interface Reader {
  socket: Socket
  sessionId: string
  events: number
}

/** Called at each event that a reader gets. */
let onEvent = () => {}

/** Resolves when the first bytes have arrived. */
async function openStream(bearer: string, sessionId: string): Promise<Reader> {
  const socket = connect(PORT, '127.0.0.1').setEncoding('latin1')
  const reader = { socket, sessionId, events: 0 }
  socket
    .on('error', () => {})
    .on('data', (text: unknown) => {
      const events = String(text).split('\ndata: ').length - 1
      reader.events += events
      for (let i = 0; i < events; i++) onEvent()
    })
  const head = `GET /sessions/${sessionId}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n`
  socket.write(`${head}Authorization: Bearer ${bearer}\r\n\r\n`)
  const [first] = await once(socket, 'data')
  if (!String(first).startsWith('HTTP/1.1 200')) throw new Error(`a stream was refused: ${first}`)
  return reader
}

async function newUser(sessions: number): Promise<{ bearer: string; ids: string[] }> {
  const bearer = String((await post('/auth/guest')).access_token)
  const ids: string[] = []
  for (let i = 0; i < sessions; i++) ids.push(String((await post('/token', bearer)).session_id))
  return { bearer, ids }
}

/** Opens that many streams, each of its own session. */
async function openStreams(count: number): Promise<Reader[]> {
  const readers: Reader[] = []
  while (readers.length < count) {
    const users = await Promise.all(Array.from({ length: 10 }, () => newUser(SESSIONS_PER_USER)))
    const opened = users.flatMap(({ bearer, ids }) => ids.map((id) => openStream(bearer, id)))
    readers.push(...(await Promise.all(opened)))
  }
  return readers
}

async function ask<T>(server: ChildProcess, message: string[] | null): Promise<T> {
  server.send(message as never)
  const [answer] = await once(server, 'message', { signal: AbortSignal.timeout(120_000) })
  return answer
}

/** Stores one event in each of these sessions; milliseconds from the request and from the last commit to the last delivery. */
async function deliver(server: ChildProcess, ids: string[], count: number) {
  let left = count
  let lastAt = 0
  const all = new Promise<void>((resolve) => {
    onEvent = () => {
      lastAt = now()
      if (--left === 0) resolve()
    }
  })
  const [startedAt, committedAt] = await ask<[number, number]>(server, ids)
  await all
  return { sinceStart: lastAt - startedAt, sinceCommit: lastAt - committedAt }
}

async function untilReady(): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    const answer = await fetch(`${URL_BASE}/health/ready`).catch(() => undefined)
    if (answer?.ok) return
    await delay(50)
  }
  throw new Error('the service did not become ready')
}

const print = (line: string) => process.stdout.write(`${line}\n`)
const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
const perStream = (before: Usage, after: Usage, count: number) =>
  (['rss', 'heapUsed', 'external'] as const)
    .map((field) => `${((after[field] - before[field]) / count / 1024).toFixed(1)} kB ${field}`)
    .join(', ')

async function withServer(kind: 'serve' | 'bare', measure: (server: ChildProcess) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-bench-'))
  const server = fork(fileURLToPath(import.meta.url), [kind], {
    execArgv: ['--expose-gc', '--import', 'tsx'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: {
      HOST: '127.0.0.1',
      PORT: String(PORT),
      DATABASE_URL: `file:${join(folder, 'bench.db')}`,
      // Nothing listens there, and nothing here needs LiveKit.
      LIVEKIT_URL: 'ws://127.0.0.1:2',
      LOG_LEVEL: 'silent',
      GUESTS_PER_ADDRESS_PER_HOUR: '1000000',
      MAX_SESSIONS_PER_USER: '10000',
    },
  })
  try {
    await untilReady()
    await measure(server)
  } finally {
    server.kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  }
}

async function measureBare(server: ChildProcess): Promise<void> {
  const open = (count: number) => Promise.all(Array.from({ length: count }, () => openStream('x'.repeat(600), 'x')))
  for (const { socket } of await open(500)) socket.destroy()
  await delay(1_000)
  const before = await ask<Usage>(server, null)
  const readers: Reader[] = []
  while (readers.length < STREAMS) readers.push(...(await open(100)))
  await delay(1_000)
  print(`bare node:http, per stream: ${perStream(before, await ask(server, null), STREAMS)}`)
  for (const { socket } of readers) socket.destroy()
}

async function measureService(server: ChildProcess): Promise<void> {
  // A first round, so that compiled code and caches do not count.
  for (const { socket } of await openStreams(500)) socket.destroy()
  await delay(2_000)
  const before = await ask<Usage>(server, null)
  const readers = await openStreams(STREAMS)
  await delay(2_000)
  const open = await ask<Usage>(server, null)
  await delay(QUIET_SECONDS * 1_000)
  const later = await ask<Usage>(server, null)
  const cpu = (((later.cpu - open.cpu) / 1e6 / QUIET_SECONDS) * 100).toFixed(1)
  print(`the service, per stream: ${perStream(before, later, STREAMS)}`)
  print(`all quiet for ${QUIET_SECONDS} s: ${cpu} % of one CPU`)
  const ids = readers.map(({ sessionId }) => sessionId)
  for (const round of [1, 2, 3]) {
    const { sinceStart, sinceCommit } = await deliver(server, ids, STREAMS)
    const each = ((sinceStart / STREAMS) * 1000).toFixed(0)
    print(
      `${STREAMS} sessions, one event each, round ${round}: last delivery ${sinceStart.toFixed(0)} ms after the first ` +
        `write (${each} µs each), ${sinceCommit.toFixed(0)} ms after the last commit`,
    )
    await delay(1_000)
  }
  const { bearer, ids: one } = await newUser(1)
  await Promise.all(Array.from({ length: STREAMS_PER_USER }, () => openStream(bearer, one[0] ?? '')))
  const times: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    times.push((await deliver(server, one, STREAMS_PER_USER)).sinceCommit)
    await delay(100)
  }
  const worst = Math.max(...times).toFixed(1)
  print(
    `one session, ${STREAMS_PER_USER} streams: last delivery ${median(times).toFixed(1)} ms after the commit ` +
      `(median of ${ROUNDS}; worst ${worst})`,
  )
}

if (process.argv[2] === 'serve') await serve()
else if (process.argv[2] === 'bare') serveBare()
else {
  print(`${STREAMS} open streams, Node ${process.version}`)
  await withServer('bare', measureBare)
  await withServer('serve', measureService)
  // Ignores the errors of streams that are cut at the end.
  process.exit(0)
}
