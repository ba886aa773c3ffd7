// npm run bench: measures the service, what it stands on and its peers, in turn. README.md says how to read the result.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { CASES, type Case } from './cases.ts'
import { measure, measureFsync, type Place, type Plan, type Run } from './measure.ts'
import { describeMachine, report, summarise } from './report.ts'
import * as servers from './servers.ts'
import { createPast, openWorld, PUBLIC_URL } from './store.ts'

const USAGE = `npm run bench -- [options]
  --cases a,b           only these, and the floors; --list shows them all
  --connections 1,32    default 1,32,256
  --stores 1e3,1e6      sessions in the store; each store is measured; default 1e5
  --rounds 5            default 3
  --seconds 5           of a run, at most 30; default 2
  --quick               one round of 1 s at 32 connections with 1e3 sessions
  --fsync-ms 3          every fsync of the service takes so much longer
  --list                the cases
`
/** LiveKit's confirmation of a user is given before a run, and counts for a minute. */
const MAX_SECONDS = 30

const { values: options } = parseArgs({
  options: {
    cases: { type: 'string' },
    connections: { type: 'string' },
    stores: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    'fsync-ms': { type: 'string' },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

function fail(message: string): never {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

function numbers(option: 'connections' | 'stores' | 'rounds' | 'seconds' | 'fsync-ms', fallback: string): number[] {
  const all = (options[option] ?? fallback).split(',').map(Number)
  const isFine = all.every((one) => Number.isInteger(one) && one > 0)
  return isFine ? all : fail(`--${option} takes whole numbers from 1 on, separated by commas.`)
}

const { quick } = options
const connections = numbers('connections', quick ? '32' : '1,32,256')
const stores = numbers('stores', quick ? '1e3' : '1e5')
const [rounds = 1] = numbers('rounds', quick ? '1' : '3')
const [seconds = 1] = numbers('seconds', quick ? '1' : '2')
const [fsyncMs = 0] = options['fsync-ms'] ? numbers('fsync-ms', '') : []
if (seconds > MAX_SECONDS) fail(`--seconds takes at most ${MAX_SECONDS}.`)

const say = (line: string) => void process.stderr.write(`${line}\n`)

function requireTool(tool: string, debianPackage = tool): void {
  try {
    execFileSync('sh', ['-c', `command -v ${tool}`], { stdio: 'ignore' })
  } catch {
    fail(`The benchmark needs ${tool}, which is not installed. On Debian and Ubuntu: apt-get install ${debianPackage}`)
  }
}

const isFloor = ({ table }: Case) => table === 'floor'

function chosenCases(): Case[] {
  if (!options.cases) return [...CASES]
  const named = options.cases
    .split(',')
    .map((name) => CASES.find((one) => one.name === name) ?? fail(`No case is named ${name}: see --list.`))
  return [...new Set([...CASES.filter(isFloor), ...named])]
}

/** The servers that these cases need, by name: one service for each store. A peer that cannot be started is left out. */
async function startAll(cases: Case[], folder: string, livekit: servers.Livekit): Promise<Map<string, Place[]>> {
  const services: Place[] = []
  for (const store of stores) {
    say(`filling a store with ${store} sessions`)
    const path = join(folder, `${store}.db`)
    await createPast(path, store)
    const server = await servers.startService(path, livekit.port, fsyncMs)
    services.push({ server, world: await openWorld(path), store })
  }
  const places = new Map([['service', services]])
  const { world } = services[0] as Place
  for (const name of new Set(cases.map(({ server }) => server))) {
    const errors = join(folder, `${name}.errors`)
    if (name in servers.PEERS) {
      const server = await servers.startPeer(name as servers.Peer, errors).catch((error: Error) => {
        say(`SKIPPED: the peer ${name}: ${error.message}`)
      })
      places.set(name, server ? [{ server, world, store: null }] : [])
    } else if (name === 'least') {
      const path = join(folder, 'least.db')
      await createPast(path, stores[0] ?? 0)
      const own = await openWorld(path)
      const server = await servers.startSmall(name, errors, [`file:${path}`, PUBLIC_URL])
      places.set(name, [{ server, world: own, store: stores[0] ?? null }])
    } else if (name !== 'service') {
      const forVerified = [`file:${join(folder, `${stores[0]}.db`)}`, PUBLIC_URL]
      const server = await servers.startSmall(name, errors, name === 'verified' ? forVerified : [])
      places.set(name, [{ server, world, store: null }])
    }
  }
  return places
}

/** What runs in each round, which begins at another case than the last one; the round of number 0 warms up. */
function planOf(cases: Case[], places: Map<string, Place[]>): Plan[] {
  const onPlaces = cases.flatMap((of) => (places.get(of.server) ?? []).map((place) => ({ of, place })))
  const warmUp = onPlaces.map((one) => ({ ...one, connections: 32, round: 0, seconds: 1 }))
  const all = onPlaces.flatMap(({ of, place }) =>
    (of.connections ?? connections).map((connections) => ({ of, place, connections, seconds })),
  )
  const later = Array.from({ length: rounds }, (_, i) => {
    const first = Math.floor((all.length * i) / rounds)
    return [...all.slice(first), ...all.slice(0, first)].map((one) => ({ ...one, round: i + 1 }))
  })
  return [warmUp, ...later].flat()
}

async function main(): Promise<void> {
  for (const tool of ['wrk', ...(fsyncMs > 0 ? ['strace'] : [])]) requireTool(tool)
  requireTool('taskset', 'util-linux')
  const output = fileURLToPath(new URL('../test-output/', import.meta.url))
  mkdirSync(output, { recursive: true })
  const folder = mkdtempSync(join(output, 'bench-'))
  process.on('exit', () => {
    servers.stopAll()
    rmSync(folder, { recursive: true, force: true })
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

  servers.leaveServerCore()
  const cases = chosenCases()
  const livekit = await servers.startLivekit()
  const places = await startAll(cases, folder, livekit)
  const fsync = measureFsync(folder)
  const runs: Run[] = []
  try {
    for (const plan of planOf(cases, places)) {
      if (plan.round > (runs.at(-1)?.round ?? 0)) fsync.push(...measureFsync(folder))
      const run = await measure(plan, livekit, folder)
      runs.push(run)
      const which = `round ${run.round} of ${rounds}: ${run.case} ${run.store ?? ''} ×${run.connections}`
      say(
        `${which}: ${run.perSecond.toFixed(0)}/s, ${run.cpuMicrosPerRequest.toFixed(0)} µs, p99 ${run.p99.toFixed(1)} ms`,
      )
    }
  } catch (error) {
    // What was measured until then is still reported.
    process.exitCode = 1
    say(`FAILED: ${(error as Error).stack}`)
  }
  const machine = describeMachine(folder, fsync, fsyncMs)
  const summary = summarise(runs)
  process.stdout.write(report(machine, summary, fsync, fsyncMs))
  const file = join(output, `bench-${new Date().toISOString().replaceAll(':', '-')}.json`)
  writeFileSync(file, JSON.stringify({ machine, rounds, seconds, summary, runs }, null, 2))
  say(file)
}

if (options.help) process.stdout.write(USAGE)
else if (options.list) for (const { name, what } of CASES) process.stdout.write(`${name}: ${what}\n`)
else {
  await main()
  process.exit()
}
