// npm run bench: measures the service, what it stands on and its peers, side by side. README.md says how to read it.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  fdatasyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { CASES, type Case, TABLES } from './cases.ts'
import * as servers from './servers.ts'
import { createPast, openWorld, PUBLIC_URL, type World } from './store.ts'

const USAGE = `npm run bench -- [options]
  --cases a,b        only these, and the floors (see --list)
  --connections 1,32 instead of 1, 32 and 256
  --stores 1e3,1e6   sessions in the store; several are measured in turn (default 1e5)
  --rounds 5         default 3
  --seconds 5        per case and round, default 2
  --quick            one round of 1 s at 32 connections on 1e3 sessions
  --fsync-ms 3       makes every fsync of the service so much slower, by strace
  --list             the cases`

const { values: options } = parseArgs({
  options: {
    cases: { type: 'string' },
    connections: { type: 'string' },
    stores: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    'fsync-ms': { type: 'string', default: '0' },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const numbers = (list: string) => list.split(',').map(Number)
const { quick } = options
const CONNECTIONS = options.connections ? numbers(options.connections) : quick ? [32] : [1, 32, 256]
const STORES = numbers(options.stores ?? (quick ? '1e3' : '1e5'))
const ROUNDS = Number(options.rounds ?? (quick ? 1 : 3))
const SECONDS = Number(options.seconds ?? (quick ? 1 : 2))
const FSYNC_MS = Number(options['fsync-ms'])
/** Requests prepared per second of a run; a case that may not repeat one fails beyond it. */
const MOST_PER_SECOND = 12_000
const FLOOR = 'node-post'
/** Connections of the writer under whose load another case runs. */
const WRITERS = 32

const HERE = fileURLToPath(new URL('.', import.meta.url))
const OUTPUT = join(HERE, '../test-output')
const say = (line: string) => void process.stderr.write(`${line}\n`)

interface Run {
  case: string
  store: number | null
  connections: number
  round: number
  perSecond: number
  /** Milliseconds. */
  p50: number
  p99: number
  max: number
  /** Of the server's process. */
  cpuMicrosPerRequest: number
  /** Shares of one core, of the server and of wrk. */
  serverCpu: number
  wrkCpu: number
  statuses: Record<string, number>
  /** Requests per second of the case that ran at the same time. */
  otherPerSecond?: number
}

function requireTools(): void {
  const tools = { wrk: 'wrk', taskset: 'util-linux', ...(FSYNC_MS > 0 ? { strace: 'strace' } : {}) }
  for (const [tool, name] of Object.entries(tools)) {
    try {
      execFileSync('sh', ['-c', `command -v ${tool}`], { stdio: 'ignore' })
    } catch {
      say(`The benchmark needs ${tool}, which is not installed. On Debian and Ubuntu: apt-get install ${name}`)
      process.exit(1)
    }
  }
}

/** Milliseconds that appending a page and making it durable takes here: what every commit waits for. */
function measureFsync(folder: string): number[] {
  const path = join(folder, 'fsync')
  const file = openSync(path, 'w')
  const page = Buffer.alloc(4096, 1)
  const times = Array.from({ length: 100 }, () => {
    const startedAt = performance.now()
    writeSync(file, page)
    fdatasyncSync(file)
    return performance.now() - startedAt
  })
  closeSync(file)
  rmSync(path)
  return times
}

const sorted = (all: number[]) => [...all].sort((a, b) => a - b)
const quantile = (all: number[], share: number) => sorted(all)[Math.round((all.length - 1) * share)] ?? Number.NaN
const median = (all: number[]) => quantile(all, 0.5)

interface Load {
  of: Case
  requests: string[]
  connections: number
  seconds: number
  pauseMs: number
}

/** Runs wrk against the server, and reads what wrk.lua prints. */
async function wrk(url: string, folder: string, { of, requests, connections, seconds, pauseMs }: Load) {
  const [pool, sample] = [join(folder, `${of.name}.requests`), join(folder, `${of.name}.sample`)]
  writeFileSync(pool, requests.join('\x01'))
  const script = [join(HERE, 'wrk.lua'), url, '--', pool, sample, String(pauseMs), of.chain ? 'chain' : 'repeat']
  const child = spawn(
    'wrk',
    ['-t', '1', '-c', String(connections), '-d', `${seconds}s`, '--timeout', '10s', '-s', ...script],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  const [, result] = /^RESULT (.*)$/m.exec(stdout) ?? []
  if (!result) throw new Error(`wrk did not finish ${of.name}: ${stdout}${stderr}`)
  return { ...JSON.parse(result), sample: readFileSync(sample, 'utf8').split('\x01').filter(Boolean) } as {
    requests: number
    micros: number
    sent: number
    statuses: Record<string, number>
    socketErrors: number
    p50: number
    p99: number
    max: number
    cpuTicks: number
    sample: string[]
  }
}

/** @throws Error unless every answer had the right status, and every sampled one the right content */
async function checkAnswers(load: Load, result: Awaited<ReturnType<typeof wrk>>, world: World): Promise<void> {
  const { of, requests } = load
  const wrong = result.sample.find((answer) => !answer.startsWith(`${of.status} `))
  const statuses = Object.keys(result.statuses)
  if (result.socketErrors > 0 || statuses.length !== 1 || statuses[0] !== String(of.status)) {
    const seen = JSON.stringify(result.statuses)
    throw new Error(
      `${of.name}: answers ${seen}, ${result.socketErrors} socket errors, such as: ${wrong ?? 'none sampled'}`,
    )
  }
  if (of.once && result.sent > requests.length) {
    throw new Error(`${of.name} used up its ${requests.length} requests: raise MOST_PER_SECOND in run.ts`)
  }
  for (const answer of result.sample) await of.check(answer.slice(answer.indexOf(' ') + 1), world)
}

interface Place {
  store: number | null
  server: servers.Server
  world: World
}

type Livekit = Awaited<ReturnType<typeof servers.startLivekit>>

async function measure(of: Case, connections: number, round: number, place: Place, livekit: Livekit, folder: string) {
  const { server, world, store } = place
  const seconds = round === 0 ? 1 : SECONDS
  const load = async (other: Case, on: number, pauseMs: number): Promise<Load> => {
    const requests = await other.prepare(Math.ceil(MOST_PER_SECOND * seconds), world, on)
    return { of: other, requests, connections: on, seconds, pauseMs }
  }
  const main = await load(of, connections, 0)
  const other = of.under ? await load(caseNamed(of.under.other), WRITERS, of.under.pauseMs) : undefined
  await livekit.behave(of.livekit ?? { delayMs: 0, isDown: false })
  const before = server.cpuMicros()
  const [result, beside] = await Promise.all([
    wrk(server.url, folder, main),
    other ? wrk(server.url, folder, other) : undefined,
  ])
  const cpu = server.cpuMicros() - before
  await livekit.behave({ delayMs: 0, isDown: false })
  await checkAnswers(main, result, world)
  if (other && beside) await checkAnswers(other, beside, world)
  if (of.server === 'service') world.endAll()
  return {
    ...{ case: of.name, store, connections, round, statuses: result.statuses },
    perSecond: (result.requests / result.micros) * 1e6,
    ...{ p50: result.p50 / 1000, p99: result.p99 / 1000, max: result.max / 1000 },
    cpuMicrosPerRequest: cpu / (result.requests + (beside?.requests ?? 0)),
    serverCpu: cpu / result.micros,
    wrkCpu: (result.cpuTicks * 10_000) / result.micros,
    ...(beside ? { otherPerSecond: (beside.requests / beside.micros) * 1e6 } : {}),
  } satisfies Run
}

function caseNamed(name: string): Case {
  const found = CASES.find((one) => one.name === name)
  if (found) return found
  say(`There is no case ${name}; --list shows them.`)
  process.exit(1)
}

/** Starts every server that the cases need. What cannot be started is skipped, with a message. */
async function start(cases: Case[], folder: string, livekit: Livekit) {
  const places = new Map<string, Place[]>()
  const services: Place[] = []
  for (const sessions of STORES) {
    const path = join(folder, `${sessions}.db`)
    const startedAt = performance.now()
    await createPast(path, sessions)
    say(`a store of ${sessions} sessions: ${((performance.now() - startedAt) / 1000).toFixed(1)} s`)
    const server = await servers.startService(path, livekit.port, FSYNC_MS)
    services.push({ store: sessions, server, world: await openWorld(path) })
  }
  places.set('service', services)
  const [first] = services
  if (!first) throw new Error('There is no store')
  for (const name of new Set(cases.map((one) => one.server))) {
    if (name === 'service') continue
    const errors = join(folder, `${name}.errors`)
    try {
      const isPeer = name in servers.PEERS
      const more = name === 'verified' ? [`file:${join(folder, `${first.store}.db`)}`, PUBLIC_URL] : []
      const server = isPeer
        ? await servers.startPeer(name as servers.Peer, errors)
        : await servers.startSmall(name, errors, ...more)
      places.set(name, [{ store: null, server, world: first.world }])
    } catch (error) {
      if (!(name in servers.PEERS)) throw error
      say(`SKIPPED: the peer ${name}: ${(error as Error).message}`)
    }
  }
  return places
}

function describeMachine(folder: string, fsync: number[]) {
  const osRelease = /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? process.platform
  const [, disk = ''] = execFileSync('df', ['--output=source,fstype', folder], { encoding: 'utf8' }).split('\n')
  return {
    cpu: `${cpus().length} × ${cpus()[0]?.model}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${osRelease}, Linux ${release()}, Node ${process.version}`,
    disk: `${disk.replace(/\s+/g, ', ')}; append of 4 KiB and fdatasync: median ${median(fsync).toFixed(2)} ms, p99 ${quantile(fsync, 0.99).toFixed(2)} ms`,
    ...(FSYNC_MS > 0 ? { slowed: `every fsync of the service takes ${FSYNC_MS} ms longer (strace)` } : {}),
    pinning: servers.pinning,
  }
}

/** Medians over the rounds. `ratio` is to the floor of the same round, at the same number of connections. */
function summarise(runs: Run[]) {
  const counted = runs.filter(({ round }) => round > 0)
  const floorOf = (run: Run) =>
    counted.find((one) => one.case === FLOOR && one.round === run.round && one.connections === run.connections)
  const groups = new Map<string, Run[]>()
  for (const run of counted) {
    const key = `${run.case} ${run.store} ${run.connections}`
    groups.set(key, [...(groups.get(key) ?? []), run])
  }
  return [...groups.values()].map((group) => {
    const { case: name, store, connections } = group[0] as Run
    const of = (value: (run: Run) => number) => median(group.map(value))
    const rates = group.map(({ perSecond }) => perSecond)
    return {
      ...{ case: name, store, connections, perSecond: median(rates), spread: [Math.min(...rates), Math.max(...rates)] },
      ratio: of((run) => run.perSecond / (floorOf(run)?.perSecond ?? Number.NaN)),
      cpuRatio: of((run) => (floorOf(run)?.cpuMicrosPerRequest ?? Number.NaN) / run.cpuMicrosPerRequest),
      cpuMicrosPerRequest: of((run) => run.cpuMicrosPerRequest),
      ...{ p50: of((run) => run.p50), p99: of((run) => run.p99) },
      ...{ serverCpu: of((run) => run.serverCpu), wrkCpu: of((run) => run.wrkCpu) },
      otherPerSecond: of((run) => run.otherPerSecond ?? Number.NaN),
    }
  })
}

type Summary = ReturnType<typeof summarise>

function print(machine: object, summary: Summary, fsync: number[]): void {
  const lines = Object.entries(machine).map(([what, value]) => `- ${what}: ${value}`)
  const row = (...cells: Array<string | number>) => lines.push(`| ${cells.join(' | ')} |`)
  const head = (...cells: string[]) => {
    row(...cells)
    row(...cells.map((_, i) => (i === 0 ? '---' : '--:')))
  }
  const percent = (share: number) => `${Math.round(share * 100)} %`
  const ms = (value: number) => value.toFixed(value < 10 ? 2 : 0)
  for (const [table, title] of Object.entries(TABLES)) {
    const rows = summary.filter((one) => caseNamed(one.case).table === table)
    if (rows.length === 0) continue
    const isLoad = table === 'load'
    lines.push('', `**${title}**`, '')
    const [rate, ratio] = isLoad ? ['reads/s', 'writes/s'] : ['requests/s (min–max)', 'of the POST floor']
    head(
      'case',
      'sessions',
      'connections',
      rate,
      ratio,
      'CPU µs per request',
      'of the floor, by CPU',
      'p50 ms',
      'p99 ms',
      'CPU server, wrk',
    )
    for (const one of rows) {
      const [least = 0, most = 0] = one.spread
      row(
        ...[`${one.case}: ${caseNamed(one.case).what}`, one.store ?? '', one.connections],
        `${Math.round(one.perSecond)} (${Math.round(least)}–${Math.round(most)})`,
        isLoad ? Math.round(one.otherPerSecond) : one.ratio.toFixed(3),
        ...[one.cpuMicrosPerRequest.toFixed(0), isLoad ? '' : one.cpuRatio.toFixed(3), ms(one.p50), ms(one.p99)],
        `${percent(one.serverCpu)}, ${percent(one.wrkCpu)}`,
      )
    }
  }
  const floor = summary.find((one) => one.case === FLOOR && one.connections === 1)
  const alone = summary.filter((one) => one.connections === 1 && caseNamed(one.case).table === 'service')
  if (floor && alone.length > 0) {
    const one = median(fsync) + FSYNC_MS
    const budget = 1.5 * one + floor.p50
    lines.push(
      '',
      `**One connection: 1.5 × one fsync (${one.toFixed(2)} ms) plus the floor (${ms(floor.p50)} ms) is ${ms(budget)} ms**`,
      '',
    )
    head('case', 'sessions', 'p50 ms', 'fsyncs above the floor')
    for (const { case: name, store, p50 } of alone)
      row(name, store ?? '', ms(p50), ((p50 - floor.p50) / one).toFixed(2))
  }
  process.stdout.write(`${lines.join('\n')}\n`)
}

async function main(): Promise<void> {
  const floors = CASES.filter(({ table }) => table === 'floor')
  const chosen = options.cases ? [...new Set([...floors, ...options.cases.split(',').map(caseNamed)])] : [...CASES]
  const cases = FSYNC_MS > 0 && !options.cases ? chosen.filter(({ table }) => table !== 'W1') : chosen
  mkdirSync(OUTPUT, { recursive: true })
  const folder = mkdtempSync(join(OUTPUT, 'bench-'))
  const runs: Run[] = []
  const fsync: number[] = measureFsync(folder)
  try {
    servers.leaveServerCore()
    const livekit = await servers.startLivekit()
    const places = await start(cases, folder, livekit)
    const plan = cases.flatMap((of) =>
      (places.get(of.server) ?? []).flatMap((place) =>
        (of.connections ?? CONNECTIONS).map((connections) => ({
          of,
          connections,
          place,
        })),
      ),
    )
    for (let round = 0; round <= ROUNDS; round++) {
      const shift = Math.floor((plan.length * round) / (ROUNDS + 1))
      // The first round only warms up, once per case.
      const order =
        round === 0
          ? plan.filter(({ of, place }, i) => plan.findIndex((one) => one.of === of && one.place === place) === i)
          : [...plan.slice(shift), ...plan.slice(0, shift)]
      for (const { of, connections, place } of order) {
        const run = await measure(of, round === 0 ? 32 : connections, round, place, livekit, folder)
        runs.push(run)
        say(
          `${round}/${ROUNDS} ${of.name} ${place.store ?? ''} ×${run.connections}: ${Math.round(run.perSecond)}/s, ${run.cpuMicrosPerRequest.toFixed(0)} µs CPU, p99 ${run.p99.toFixed(1)} ms`,
        )
      }
      fsync.push(...measureFsync(folder))
    }
    const machine = describeMachine(folder, fsync)
    const summary = summarise(runs)
    print(machine, summary, fsync)
    const file = join(OUTPUT, `bench-${new Date().toISOString().replaceAll(':', '-')}.json`)
    writeFileSync(file, JSON.stringify({ machine, rounds: ROUNDS, seconds: SECONDS, summary, runs }, null, 2))
    say(file)
  } finally {
    await servers.stopAll()
    rmSync(folder, { recursive: true, force: true })
  }
}

if (options.help) process.stdout.write(`${USAGE}\n`)
else if (options.list) process.stdout.write(`${CASES.map(({ name, what }) => `${name}: ${what}`).join('\n')}\n`)
else {
  requireTools()
  await main()
  process.exit(0)
}
