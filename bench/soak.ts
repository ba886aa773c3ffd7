// Mixed load for --minutes (default 60), at full speed or with --pause-ms after each request: join tokens, calls that come
// and go in LiveKit with its webhooks, and in each an agent's progress, reads and the end; refreshed sign-ins. The service
// is the built one, LiveKit a fake one in a process of its own. Every few seconds it samples memory, the write-ahead log,
// requests per second and errors; at the end, the memory after a rest. Writes soak.json and soak.png to --out (default
// test-output). Exits with 1 on any error.
// npm run build && node --import tsx bench/soak.ts --minutes 15
import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'
import { chromiumBinary } from '../test/browser/chromium.ts'
import { startFakeLiveKit } from './fake-livekit.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    'pause-ms': { type: 'string', default: '0' },
    out: { type: 'string', default: 'test-output' },
    server: { type: 'string', default: fileURLToPath(new URL('../dist/server.js', import.meta.url)) },
  },
})
const MINUTES = Number(values.minutes)
const PAUSE_MS = Number(values['pause-ms'])
const SAMPLE_SECONDS = 5
const REST_SECONDS = 45
/** Concurrent loops of each kind. */
const LOOPS = { token: 8, call: 12, refresh: 2 }
/** The events of one call; the service takes 10,000. */
const PROGRESS_PER_CALL = 100
const PORT = 18_012

/** Answers the soak with its memory and CPU time; the last time after a garbage collection. */
const REPORTER = `data:text/javascript,${encodeURIComponent(
  `process.on('message', (collect) => { if (collect) { gc(); gc() } process.send([process.memoryUsage(), process.cpuUsage()]) })`,
)}`

const KINDS = ['token', 'progress', 'webhook', 'refresh', 'read', 'end'] as const
type Kind = (typeof KINDS)[number]

interface Sample {
  seconds: number
  rssMb: number
  heapUsedMb: number
  externalMb: number
  walMb: number
  databaseMb: number
  /** Of the service's process since its start, milliseconds. */
  cpuMs: number
  /** The same per request, since the sample before. */
  cpuMsPerRequest: number
  /** Requests per second of each kind. */
  rates: Record<Kind, number>
  errors: number
}

const counts = Object.fromEntries(KINDS.map((kind) => [kind, 0])) as Record<Kind, number>
const errors: string[] = []
let errorCount = 0
let isOver = false
const connections = new Agent({ keepAlive: true })

interface Call {
  method?: string
  bearer?: string
  body?: unknown
  headers?: Record<string, string>
}

/** The answer's JSON; undefined after any answer that is not 2xx, which counts as an error. */
async function call(kind: Kind | null, path: string, { method = 'POST', bearer, body, headers = {} }: Call = {}) {
  const content = method === 'POST' ? JSON.stringify(body ?? {}) : undefined
  try {
    const sent = request({ port: PORT, host: '127.0.0.1', path, method, agent: connections })
    if (bearer) sent.setHeader('Authorization', `Bearer ${bearer}`)
    if (content) sent.setHeader('Content-Type', 'application/json')
    for (const [name, value] of Object.entries(headers)) sent.setHeader(name, value)
    sent.end(content)
    const [answer] = await once(sent, 'response')
    const said = await text(answer)
    if (answer.statusCode >= 300) throw new Error(`${answer.statusCode} ${said}`)
    if (kind) counts[kind]++
    if (PAUSE_MS > 0) await delay(PAUSE_MS)
    return JSON.parse(said) as Record<string, never>
  } catch (error) {
    if (!isOver) failed(`${method} ${path}: ${error}`)
    await delay(100)
    return undefined
  }
}

function failed(what: string): void {
  errorCount++
  if (errors.length < 20) errors.push(what)
}

/** A guest whose access token stays valid: refreshed every few minutes, as a client does. */
async function newGuest() {
  const guest = await call(null, '/auth/guest')
  const user = { id: String((guest?.user as unknown as { id: string })?.id), bearer: String(guest?.access_token) }
  let refreshToken = String(guest?.refresh_token)
  return {
    ...user,
    refreshedAt: performance.now(),
    async refresh() {
      const fresh = await call('refresh', '/auth/refresh', { body: { refresh_token: refreshToken } })
      if (!fresh) return
      refreshToken = String(fresh.refresh_token)
      this.bearer = String(fresh.access_token)
      this.refreshedAt = performance.now()
    },
    async keepFresh() {
      if (performance.now() - this.refreshedAt > 5 * 60_000) await this.refresh()
    },
  }
}

type LiveKit = Awaited<ReturnType<typeof startFakeLiveKit>>

async function tokenLoop(): Promise<void> {
  const user = await newGuest()
  while (!isOver) {
    await user.keepFresh()
    await call('token', '/token', { bearer: user.bearer })
  }
}

async function refreshLoop(): Promise<void> {
  const user = await newGuest()
  while (!isOver) await user.refresh()
}

/** One call after the other: the user joins, the agent reports, both read; the user leaves, or somebody ends it. */
async function callLoop(livekit: LiveKit, agentBearer: () => string): Promise<void> {
  const user = await newGuest()
  for (let round = 0; !isOver; round++) {
    await user.keepFresh()
    const { bearer } = user
    const minted = await call('token', '/token', { bearer })
    if (!minted) continue
    const sessionId = String(minted.session_id)
    const leg = await livekit.join(String(minted.participant_token))
    counts.webhook++
    const pair = { userId: user.id, sessionId }
    for (let step = 0; step < PROGRESS_PER_CALL && !isOver; step++) {
      const headers = step % 4 === 0 ? { 'Idempotency-Key': `step-${step}` } : {}
      await call('progress', '/agent/progress', { bearer: agentBearer(), body: { ...pair, data: { step } }, headers })
      if (step % 10 === 0) await call('read', `/sessions/${sessionId}`, { method: 'GET', bearer })
      if (step % 30 === 0) await call('read', `/sessions/${sessionId}/events?after=${step}`, { method: 'GET', bearer })
    }
    if (round % 3 === 0) await call('end', '/agent/session/end', { bearer: agentBearer(), body: pair })
    else if (round % 3 === 1) await call('end', `/sessions/${sessionId}`, { method: 'DELETE', bearer })
    else {
      await livekit.leave(leg)
      counts.webhook++
    }
  }
}

async function agentToken(id: string, secret: string): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${PORT}/agent/token`, {
    method: 'POST',
    headers: { Authorization: `Basic ${btoa(`${id}:${secret}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })
  return String(((await answer.json()) as Record<string, unknown>).access_token)
}

const print = (line: string) => process.stdout.write(`${line}\n`)
const sizeMb = (file: string) => (statSync(file, { throwIfNoEntry: false })?.size ?? 0) / 1024 / 1024

async function usageOf(server: ChildProcess, collect = false) {
  server.send(collect)
  const [[{ rss, heapUsed, external }, { user, system }]] = await once(server, 'message')
  const mb = (bytes: number) => bytes / 1024 / 1024
  return { rssMb: mb(rss), heapUsedMb: mb(heapUsed), externalMb: mb(external), cpuMs: (user + system) / 1000 }
}

/** One chart below the other, all over the same time. */
function drawn(samples: Sample[]): string {
  const [width, height, left] = [1100, 170, 60]
  const seconds = samples.at(-1)?.seconds ?? 1
  const colours = ['#1f77b4', '#d62728', '#2ca02c', '#9467bd', '#ff7f0e', '#17becf']
  const charts: Array<[title: string, lines: Record<string, (sample: Sample) => number>]> = [
    ['memory, MB', { RSS: (s) => s.rssMb, 'heap used': (s) => s.heapUsedMb, external: (s) => s.externalMb }],
    ['write-ahead log, MB', { WAL: (s) => s.walMb }],
    [
      'requests per second',
      { token: (s) => s.rates.token, progress: (s) => s.rates.progress, read: (s) => s.rates.read },
    ],
    [
      'requests per second, the rest',
      { webhook: (s) => s.rates.webhook, refresh: (s) => s.rates.refresh, end: (s) => s.rates.end },
    ],
    ['CPU per request, ms', { 'the service': (s) => s.cpuMsPerRequest }],
    ['errors so far', { errors: (s) => s.errors }],
  ]
  const drawnCharts = charts.map(([title, lines], index) => {
    const top = 40 + index * (height + 50)
    const most = Math.max(0.1, ...Object.values(lines).flatMap((line) => samples.map(line))) * 1.05
    const point = (s: Sample, value: number) =>
      `${(left + (s.seconds / seconds) * (width - left - 20)).toFixed(1)},${(top + height - (value / most) * height).toFixed(1)}`
    const parts = Object.entries(lines).map(([name, line], i) => {
      const colour = colours[i % colours.length]
      const last = samples.at(-1)
      return `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${samples.map((s) => point(s, line(s))).join(' ')}"/>
        <text x="${left + 220 + i * 170}" y="${top - 8}" fill="${colour}">${name} (${last ? line(last).toFixed(most < 5 ? 2 : 0) : ''})</text>`
    })
    const marks = [0, 0.5, 1].map(
      (
        share,
      ) => `<text x="${left - 6}" y="${top + height - share * height + 4}" text-anchor="end">${(most * share).toFixed(most < 5 ? 2 : 0)}</text>
        <line x1="${left}" x2="${width - 20}" y1="${top + height - share * height}" y2="${top + height - share * height}" stroke="#ddd"/>`,
    )
    return `<text x="${left}" y="${top - 8}" font-weight="bold">${title}</text>${marks.join('')}${parts.join('')}`
  })
  const tall = 40 + charts.length * (height + 50)
  const minutes = Array.from({ length: 7 }, (_, i) => {
    const x = left + (i / 6) * (width - left - 20)
    return `<text x="${x}" y="${tall - 12}" text-anchor="${i === 6 ? 'end' : 'middle'}">${((seconds * i) / 6 / 60).toFixed(1)} min</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${tall}" font-family="sans-serif" font-size="12">
    <rect width="100%" height="100%" fill="white"/>${drawnCharts.join('')}${minutes.join('')}</svg>`
}

async function savePlot(samples: Sample[], file: string): Promise<void> {
  const executablePath = chromiumBinary()
  if (!executablePath) {
    process.stderr.write('No plot: there is no Chromium.\n')
    return
  }
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
  const page = await browser.newPage({ viewport: { width: 1100, height: 1360 } })
  await page.setContent(`<body style="margin:0">${drawn(samples)}</body>`)
  await page.screenshot({ path: file, fullPage: true })
  await browser.close()
}

async function untilReady(): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if ((await fetch(`http://127.0.0.1:${PORT}/health/ready`).catch(() => undefined))?.ok) return
    await delay(50)
  }
  throw new Error('the service did not become ready')
}

const folder = mkdtempSync(join(tmpdir(), 'behalf-soak-'))
const file = join(folder, 'soak.db')
mkdirSync(values.out, { recursive: true })
const livekit = await startFakeLiveKit()
const env = {
  HOST: '127.0.0.1',
  PORT: String(PORT),
  DATABASE_URL: `file:${file}`,
  LIVEKIT_URL: livekit.url,
  LOG_LEVEL: 'warn',
  GUESTS_PER_ADDRESS_PER_HOUR: '1000000',
}
const server = fork(values.server, {
  execArgv: ['--expose-gc', '--import', REPORTER],
  stdio: ['ignore', 'inherit', 'ignore', 'ipc'],
  env,
})
const samples: Sample[] = []
try {
  await untilReady()
  await livekit.sendWebhooks(`http://127.0.0.1:${PORT}/livekit/webhook`)
  const cli = join(values.server, '../cli.js')
  const agent = JSON.parse(
    execFileSync(process.execPath, [cli, 'agent', 'create', 'soak', '--json'], { env }).toString(),
  )
  let bearer = await agentToken(agent.id, agent.secret)
  const renewal = setInterval(async () => {
    bearer = await agentToken(agent.id, agent.secret)
  }, 4 * 60_000)
  const startedAt = performance.now()
  const loops = [
    ...Array.from({ length: LOOPS.token }, tokenLoop),
    ...Array.from({ length: LOOPS.call }, () => callLoop(livekit, () => bearer)),
    ...Array.from({ length: LOOPS.refresh }, refreshLoop),
  ]
  while (performance.now() - startedAt < MINUTES * 60_000 && server.exitCode === null) {
    const before = { ...counts }
    const since = performance.now()
    await delay(SAMPLE_SECONDS * 1000)
    const elapsed = (performance.now() - since) / 1000
    const done = Object.fromEntries(KINDS.map((kind) => [kind, counts[kind] - before[kind]])) as Record<Kind, number>
    const usage = await usageOf(server)
    const requests = Object.values(done).reduce((sum, count) => sum + count, 0)
    const sample: Sample = {
      seconds: (performance.now() - startedAt) / 1000,
      ...usage,
      cpuMsPerRequest: requests === 0 ? 0 : (usage.cpuMs - (samples.at(-1)?.cpuMs ?? usage.cpuMs)) / requests,
      walMb: sizeMb(`${file}-wal`),
      databaseMb: sizeMb(file),
      rates: Object.fromEntries(KINDS.map((kind) => [kind, done[kind] / elapsed])) as Record<Kind, number>,
      errors: errorCount,
    }
    samples.push(sample)
    // Another program may stop processes, or hold the machine: what follows is not the service's.
    if (elapsed > 2 * SAMPLE_SECONDS)
      print(`${sample.seconds.toFixed(0)} s: the soak itself stood still for ${elapsed.toFixed(0)} s`)
    if (samples.length % 6 === 0) {
      const { seconds, rssMb, heapUsedMb, walMb } = sample
      const figures = [`RSS ${rssMb.toFixed(0)} MB`, `heap ${heapUsedMb.toFixed(0)} MB`, `WAL ${walMb.toFixed(0)} MB`]
      const perSecond = KINDS.map((kind) => `${kind} ${sample.rates[kind].toFixed(0)}`)
      const cpu = `${sample.cpuMsPerRequest.toFixed(2)} ms of CPU per request`
      print([`${seconds.toFixed(0)} s`, ...figures, ...perSecond, cpu, `errors ${errorCount}`].join(', '))
    }
  }
  isOver = true
  clearInterval(renewal)
  await Promise.all(loops)
  const atEnd = await usageOf(server)
  await delay(REST_SECONDS * 1000)
  const rested = await usageOf(server, true)
  await delay(5_000)
  const collected = await usageOf(server)
  const after = { atEnd, rested, collected }
  writeFileSync(
    join(values.out, 'soak.json'),
    JSON.stringify({ node: process.version, samples, after, errors }, null, 1),
  )
  await savePlot(samples, join(values.out, 'soak.png'))
  const mb = ({ rssMb, heapUsedMb }: { rssMb: number; heapUsedMb: number }) =>
    `RSS ${rssMb.toFixed(0)} MB, heap ${heapUsedMb.toFixed(0)} MB`
  print(`at the end ${mb(atEnd)}; after ${REST_SECONDS} s of rest and a collection ${mb(collected)}`)
  print(`errors: ${errorCount}\n${errors.join('\n')}`)
  if (errorCount > 0) process.exitCode = 1
} finally {
  isOver = true
  server.kill('SIGKILL')
  livekit.stop()
  connections.destroy()
  rmSync(folder, { recursive: true, force: true })
}
