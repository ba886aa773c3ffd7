// What a benchmark prints: the machine, and one table for each kind of work.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { caseNamed, TABLES } from './cases.ts'
import type { Run } from './measure.ts'
import { PEERS, pinning } from './servers.ts'

const FLOOR = 'node-post'

const quantile = (all: number[], share: number) => {
  const ascending = [...all].sort((a, b) => a - b)
  const at = (ascending.length - 1) * share
  return ((ascending[Math.floor(at)] ?? Number.NaN) + (ascending[Math.ceil(at)] ?? Number.NaN)) / 2
}
const median = (all: number[]) => quantile(all, 0.5)
const ms = (value: number) => value.toFixed(value < 10 ? 2 : 0)
const percent = (share: number) => `${Math.round(share * 100)} %`

/** `fsync` in milliseconds; `addedMs` is what strace adds to each. */
export function describeMachine(folder: string, fsync: number[], addedMs: number): Record<string, string> {
  const [, system = ''] = /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8')) ?? []
  const [, disk = ''] = execFileSync('df', ['--output=source,fstype', folder], { encoding: 'utf8' }).split('\n')
  const measured = `median ${ms(median(fsync))} ms, p99 ${ms(quantile(fsync, 0.99))} ms`
  return {
    cpu: `${cpus().length} × ${cpus()[0]?.model}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${system}, Linux ${release()}, Node ${process.version}`,
    disk: `${disk.replace(/\s+/g, ', ')}; appending 4 KiB with fdatasync: ${measured}`,
    ...(addedMs > 0 ? { 'slowed disk': `every fsync of the service takes ${addedMs} ms longer, by strace` } : {}),
    pinning,
  }
}

/** Medians over the rounds. Ratios are to the floor of the same round, at the same number of connections. */
export function summarise(runs: Run[]) {
  const counted = runs.filter(({ round }) => round > 0)
  const groups = new Map<string, Run[]>()
  for (const run of counted) {
    const key = `${run.case} ${run.store} ${run.connections}`
    groups.set(key, [...(groups.get(key) ?? []), run])
  }
  const isFloorOf = (run: Run) => (one: Run) =>
    one.case === FLOOR && one.round === run.round && one.connections === run.connections
  return [...groups.values()].map((group) => {
    const { case: name, store, connections } = group[0] as Run
    const of = (value: (run: Run, floor: Run | undefined) => number) =>
      median(group.map((run) => value(run, counted.find(isFloorOf(run)))))
    const rates = group.map(({ perSecond }) => perSecond)
    return {
      ...{ case: name, store, connections },
      ...{ perSecond: median(rates), least: Math.min(...rates), most: Math.max(...rates) },
      ratio: of((run, floor) => run.perSecond / (floor?.perSecond ?? Number.NaN)),
      cpuMicrosPerRequest: of((run) => run.cpuMicrosPerRequest),
      cpuRatio: of((run, floor) => (floor?.cpuMicrosPerRequest ?? Number.NaN) / run.cpuMicrosPerRequest),
      ...{ p50: of((run) => run.p50), p99: of((run) => run.p99) },
      ...{ serverCpu: of((run) => run.serverCpu), wrkCpu: of((run) => run.wrkCpu) },
      otherPerSecond: of((run) => run.otherPerSecond ?? Number.NaN),
    }
  })
}

export type Summary = ReturnType<typeof summarise>

type Cell = string | number
const row = (cells: Cell[]) => `| ${cells.join(' | ')} |`
const tableOf = (head: string[], rows: Cell[][]) => [row(head), row(head.map(() => '---')), ...rows.map(row)]

const HEAD = ['case', 'sessions', 'connections', 'requests/s (min–max)', 'of the floor', 'CPU µs per request']
const MORE = ['of the floor, by CPU', 'p50 ms', 'p99 ms', 'CPU of server, of wrk']
const LOAD_HEAD = ['case', 'sessions', 'connections', 'reads/s (min–max)', 'writes/s', 'p50 ms', 'p99 ms']

function cells(one: Summary[number], isLoad: boolean): Cell[] {
  const { perSecond, least, most, cpuMicrosPerRequest, cpuRatio, p50, p99 } = one
  const rate = `${Math.round(perSecond)} (${Math.round(least)}–${Math.round(most)})`
  const first = [`${one.case}: ${caseNamed(one.case).what}`, one.store ?? '', one.connections, rate]
  if (isLoad) return [...first, Math.round(one.otherPerSecond), ms(p50), ms(p99)]
  const cpu = [one.ratio.toFixed(3), cpuMicrosPerRequest.toFixed(0), cpuRatio.toFixed(3)]
  return [...first, ...cpu, ms(p50), ms(p99), `${percent(one.serverCpu)}, ${percent(one.wrkCpu)}`]
}

/** The report as Markdown. `fsync` in milliseconds, to which strace adds `addedMs`. */
export function report(machine: Record<string, string>, summary: Summary, fsync: number[], addedMs: number): string {
  const lines = Object.entries(machine).map(([what, value]) => `- ${what}: ${value}`)
  for (const [table, title] of Object.entries(TABLES)) {
    const rows = summary.filter((one) => caseNamed(one.case).table === table)
    const isLoad = table === 'load'
    const head = isLoad ? LOAD_HEAD : [...HEAD, ...MORE]
    const shown = rows.map((one) => cells(one, isLoad))
    if (rows.length > 0) lines.push('', `**${title}**`, '', ...tableOf(head, shown))
  }
  return `${[...lines, ...oneConnection(summary, median(fsync) + addedMs), ...againstPeers(summary)].join('\n')}\n`
}

function oneConnection(summary: Summary, fsyncMs: number): string[] {
  const alone = summary.filter(({ connections }) => connections === 1)
  const floor = alone.find((one) => one.case === FLOOR)
  const ours = alone.filter((one) => ['service', 'least'].includes(caseNamed(one.case).table))
  if (!floor || ours.length === 0) return []
  const title = `p50 at one connection: one fsync takes ${ms(fsyncMs)} ms, the floor ${ms(floor.p50)} ms`
  const head = ['case', 'sessions', 'p50 ms', 'fsyncs above the floor']
  const rows = ours.map(({ case: name, store, p50 }) => [
    ...[name, store ?? '', ms(p50), ((p50 - floor.p50) / fsyncMs).toFixed(2)],
  ])
  return ['', `**${title}**`, '', ...tableOf(head, rows)]
}

/** Not one kind of work: ours verifies and stores, which the peers do not. */
function againstPeers(summary: Summary): string[] {
  const ours = summary.find((one) => one.case === 'token' && one.connections === 32)
  return Object.entries(PEERS).flatMap(([peer, { what }], i) => {
    const theirs = summary.find((one) => one.case === `mint-${peer}`)
    if (!ours || !theirs) return []
    const times = (ours.perSecond / theirs.perSecond).toFixed(2)
    const byCpu = (theirs.cpuMicrosPerRequest / ours.cpuMicrosPerRequest).toFixed(2)
    const line = `- Our authenticated, durable \`/token\` has ${times} × the rate of the bare mint of ${what} (by CPU time ${byCpu} ×).`
    return i === 0 ? ['', line] : [line]
  })
}
