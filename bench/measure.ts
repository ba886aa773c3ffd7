// One run: wrk against one server at one number of connections, with every status and a sample of the answers checked.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fdatasyncSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Case, caseNamed } from './cases.ts'
import type { Behaviour } from './livekit.ts'
import type { Livekit, Server } from './servers.ts'
import type { World } from './store.ts'

/** A server to measure, and the store that requests to it come from. */
export interface Place {
  server: Server
  world: World
  /** Sessions in its store; null for a server without one. */
  store: number | null
}

export interface Run {
  case: string
  store: number | null
  connections: number
  /** The round of number 0 warms up and does not count. */
  round: number
  perSecond: number
  /** Milliseconds. */
  p50: number
  p99: number
  max: number
  /** Of the server's process, all threads. */
  cpuMicrosPerRequest: number
  /** Shares of one core. */
  serverCpu: number
  wrkCpu: number
  statuses: Record<string, number>
  /** Requests per second of the case that ran at the same time. */
  otherPerSecond?: number
}

export interface Plan {
  of: Case
  place: Place
  connections: number
  round: number
  seconds: number
}

/** Requests prepared for each second of a run, of the service and of the least that its work takes. */
const MOST_PER_SECOND = { service: 12_000, least: 30_000 }
/** Connections of the client that writes while another one is measured. */
const WRITERS = 32
const WELL: Behaviour = { delayMs: 0, isDown: false }
/** The service is then done with comparing. */
const PASS_MS = 5_000
/** Longer than a busy machine makes a process wait. */
const STALL_MS = 1_000
const TICK_MICROS = 10_000
const SCRIPT = fileURLToPath(new URL('wrk.lua', import.meta.url))

/** As many as a run may need. */
export function requestsFor(of: Case, seconds: number, connections: number, { server, world }: Omit<Place, 'store'>) {
  const most = MOST_PER_SECOND[of.server === 'least' ? 'least' : 'service']
  return of.prepare(most * seconds, world, connections, server.url)
}

/**
 * Repeats a run in which the machine stood still, the service compared with LiveKit, or the clock was set, after which the
 * service confirms everybody again. @throws Error for a wrong answer
 */
export async function measure(plan: Plan, livekit: Livekit, folder: string, attempts = 5): Promise<Run> {
  const { of, place, connections, round, seconds } = plan
  const { server, world, store } = place
  const prepare = async (what: Case, on: number, pauseMs: number) => ({
    ...{ of: what, connections: on, seconds, pauseMs },
    requests: await requestsFor(what, seconds, on, place),
  })
  await livekit.behave(of.livekit ?? WELL)
  const main = await prepare(of, connections, 0)
  const other = of.under && (await prepare(caseNamed(of.under.other), WRITERS, of.under.pauseMs))
  const before = server.cpuMicros()
  const stalled = watchStalls()
  const [result, beside] = await Promise.all([
    runWrk(server.url, folder, main),
    other && runWrk(server.url, folder, other),
  ])
  const isDisturbed = stalled() > STALL_MS
  const cpu = server.cpuMicros() - before
  const { asked, passes } = await livekit.behave(WELL)
  if (store !== null) world.endAll()
  // The answers of the last requests did not arrive within the run.
  const cutOff = connections + 0.1 * result.requests
  const asksAsItShould = of.asks === undefined || Math.abs(asked - of.asks * result.requests) <= cutOff
  if (attempts > 1 && (isDisturbed || passes > 0 || !asksAsItShould)) {
    await delay(PASS_MS)
    return measure(plan, livekit, folder, attempts - 1)
  }
  await checkAnswers(main, result, world)
  if (other && beside) await checkAnswers(other, beside, world)
  if (!asksAsItShould) {
    throw new Error(`${of.name}: ${result.requests} requests made the service ask LiveKit ${asked} times`)
  }
  return {
    ...{ case: of.name, store, connections, round, statuses: result.statuses },
    perSecond: (result.requests / result.micros) * 1e6,
    ...{ p50: result.p50 / 1000, p99: result.p99 / 1000, max: result.max / 1000 },
    cpuMicrosPerRequest: cpu / (result.requests + (beside?.requests ?? 0)),
    serverCpu: cpu / result.micros,
    wrkCpu: (result.cpuTicks * TICK_MICROS) / result.micros,
    ...(beside ? { otherPerSecond: (beside.requests / beside.micros) * 1e6 } : {}),
  }
}

/** Returns a function that stops watching and returns the longest time, in milliseconds, in which nothing ran here. */
function watchStalls(): () => number {
  let last = performance.now()
  let longest = 0
  const look = () => {
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  }
  const timer = setInterval(look, 50)
  return () => {
    look()
    clearInterval(timer)
    return longest
  }
}

interface Load {
  of: Pick<Case, 'name' | 'chain'>
  requests: string[]
  connections: number
  seconds: number
  pauseMs: number
}

/** What wrk.lua prints, and its sample of answers, each with its status before it. Times in microseconds. */
interface Result {
  requests: number
  micros: number
  /** How many requests the script handed out. */
  sent: number
  statuses: Record<string, number>
  socketErrors: Record<'connect' | 'read' | 'write' | 'timeout', number>
  p50: number
  p99: number
  max: number
  cpuTicks: number
  sample: string[]
}

export async function runWrk(url: string, folder: string, load: Load): Promise<Result> {
  const { of, requests, connections, seconds, pauseMs } = load
  const [pool, sample] = [join(folder, `${of.name}.requests`), join(folder, `${of.name}.sample`)]
  writeFileSync(pool, requests.join('\x01'))
  const options = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', SCRIPT, url]
  const forScript = [pool, sample, String(pauseMs), of.chain ? 'chain' : 'repeat']
  const child = spawn('wrk', [...options, '--', ...forScript], { stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  const [, result] = /^RESULT (.*)$/m.exec(stdout) ?? []
  if (!result) throw new Error(`wrk did not finish ${of.name}: ${stdout}${stderr}`)
  return { ...JSON.parse(result), sample: readFileSync(sample, 'utf8').split('\x01').filter(Boolean) }
}

/** @throws Error unless every answer had the right status, and every sampled one the right content */
async function checkAnswers({ of, requests }: Load & { of: Case }, result: Result, world: World): Promise<void> {
  const { statuses, socketErrors, sample, sent } = result
  const hasErrors = Object.values(socketErrors).some((count) => count > 0)
  if (hasErrors || Object.keys(statuses).join() !== String(of.status)) {
    const wrong = sample.find((answer) => !answer.startsWith(`${of.status} `)) ?? 'none in the sample'
    throw new Error(`${of.name}: ${JSON.stringify({ statuses, socketErrors })}; ${wrong}`)
  }
  if (of.once && sent > requests.length) {
    throw new Error(`${of.name} used up its ${requests.length} requests: raise MOST_PER_SECOND in measure.ts`)
  }
  for (const answer of sample) await of.check(answer.slice(answer.indexOf(' ') + 1), world)
}

/** Milliseconds that appending a page and making it durable takes here, 100 times: what every commit waits for. */
export function measureFsync(folder: string): number[] {
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
