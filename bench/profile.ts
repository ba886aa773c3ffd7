// What the time of a case goes to, by V8's CPU profiler: shares of the main thread's busy time, by the part of the service
// that a function belongs to; node's own functions count for the part that called them. Then the functions that took most.
// npm run build && node --import tsx bench/profile.ts [cases, token,progress,webhook,refresh] [runs, 4] [sessions, 1e5]
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import type { Profiler } from 'node:inspector'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { caseNamed } from './cases.ts'
import { requestsFor, runWrk } from './measure.ts'
import { leaveServerCore, startLivekit, startService, stopAll } from './servers.ts'
import { createPast, openWorld } from './store.ts'

const [NAMES = 'token,progress,webhook,refresh', RUNS = '4', SESSIONS = '1e5'] = process.argv.slice(2)
/** As those of run.ts, so that as many sessions are unfinished as there. */
const SECONDS = 2
const CONNECTIONS = 32
const FUNCTIONS = 12

type Frame = Profiler.ProfileNode['callFrame']

/** The first that fits a function's name and file is its part. */
const PARTS: readonly (readonly [part: string, functions: RegExp])[] = [
  ['garbage collector', /^\(garbage collector\)/],
  ['waiting for fdatasync', /^fdatasync /],
  ['SQLite: commit', /^commitGroup .*store\//],
  // V8 counts native functions of an addon for their caller.
  ['SQLite: statements', /^(get|all|run) .*store\/sqlite\/statements/],
  ['the store around them', /better-sqlite3|dist\/store\//],
  ['log', /pino|sonic-boom|dist\/log\./],
  ['metrics', /prom-client|dist\/metrics\./],
  ['schemas (zod)', /\/zod\/|schemas\.js/],
  [
    'tokens and hashes',
    /jose|dist\/(jws|livekit\/(join-token|hs256|webhook)|auth\/(tokens|token-cache|keys|refresh))\./,
  ],
  ['Hono', /node_modules\/hono\//],
  ['HTTP below and above Hono', /node_modules\/@hono|dist\/http\//],
  ['routes and rules', /dist\//],
]

const textOf = ({ functionName, url }: Frame) => `${functionName} ${url}`
const partOf = (frame: Frame) => PARTS.find(([, functions]) => functions.test(textOf(frame)))?.[0]
const byPart = (stack: Frame[]) =>
  stack.map(partOf).find((part) => part !== undefined) ?? 'node:http and the event loop'

function byFunction([own, caller]: Frame[]): string {
  const file = own?.url ? `${own.url.split('/').slice(-2).join('/')}:${own.lineNumber + 1}` : ''
  return `${own?.functionName || '(anonymous)'} ${file}, called by ${caller?.functionName || '(anonymous)'}`
}

/** Microseconds of the monotonic clock, as in profiles. */
const now = () => Number(process.hrtime.bigint() / 1000n)

interface Span {
  from: number
  to: number
}

/** The stack of each sample within the spans, innermost function first, with its microseconds; idle ones are left out. */
function* samples(profile: Profiler.Profile, spans: Span[]): Generator<[Frame[], number]> {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]))
  const parents = new Map(profile.nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])))
  let at = profile.startTime
  for (const [i, id] of (profile.samples ?? []).entries()) {
    const micros = profile.timeDeltas?.[i] ?? 0
    at += micros
    if (!spans.some(({ from, to }) => at >= from && at <= to)) continue
    const stack: Frame[] = []
    for (let node = nodes.get(id); node; node = nodes.get(parents.get(node.id) ?? 0)) stack.push(node.callFrame)
    if (stack[0]?.functionName !== '(idle)') yield [stack, micros]
  }
}

function print(all: [Frame[], number][], nameOf: (stack: Frame[]) => string, most: number): void {
  const sums = new Map<string, number>()
  for (const [stack, micros] of all) sums.set(nameOf(stack), (sums.get(nameOf(stack)) ?? 0) + micros)
  const total = all.reduce((sum, [, micros]) => sum + micros, 0)
  const rows = [...sums].sort(([, a], [, b]) => b - a).slice(0, most)
  for (const [name, sum] of rows) process.stdout.write(`${((100 * sum) / total).toFixed(1).padStart(6)} %  ${name}\n`)
}

async function profileCase(name: string, folder: string, livekitPort: number): Promise<void> {
  const of = caseNamed(name)
  const path = join(folder, `${name}.db`)
  const profiles = join(folder, name)
  await createPast(path, Number(SESSIONS))
  const flags = ['--cpu-prof', `--cpu-prof-dir=${profiles}`, '--cpu-prof-interval=400']
  const server = await startService(path, livekitPort, 0, flags)
  const world = await openWorld(path)
  const runs: Array<Span & { perSecond: number }> = []
  // The first one warms up.
  while (runs.length <= Number(RUNS)) {
    const requests = await requestsFor(of, SECONDS, CONNECTIONS, { server, world })
    const from = now()
    const load = { of, requests, connections: CONNECTIONS, seconds: SECONDS, pauseMs: 0 }
    const { requests: count, micros } = await runWrk(server.url, folder, load)
    runs.push({ from, to: now(), perSecond: (count / micros) * 1e6 })
    world.endAll()
  }
  await server.stop()
  const measured = runs.slice(1)
  const rates = measured.map(({ perSecond }) => perSecond.toFixed(0)).join(', ')
  process.stdout.write(`\n${name}: ${rates} requests/s under the profiler\n`)
  // One for each thread: the service's own has the most functions.
  const all = readdirSync(profiles).map(
    (file): Profiler.Profile => JSON.parse(readFileSync(join(profiles, file), 'utf8')),
  )
  const [profile] = all.sort((a, b) => b.nodes.length - a.nodes.length)
  if (!profile) throw new Error('Node left no profile.')
  const taken = [...samples(profile, measured)]
  print(taken, byPart, PARTS.length + 1)
  process.stdout.write('\n')
  print(taken, byFunction, FUNCTIONS)
}

const output = fileURLToPath(new URL('../test-output/', import.meta.url))
mkdirSync(output, { recursive: true })
const folder = mkdtempSync(join(output, 'profile-'))
process.on('exit', () => {
  stopAll()
  rmSync(folder, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
leaveServerCore()
const { port } = await startLivekit()
for (const name of NAMES.split(',')) await profileCase(name, folder, port)
process.exit()
