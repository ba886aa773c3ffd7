// How long the service takes from its start to its first answer, and until it is ready: with a store of many sessions
// that have ended, and LIVE rooms whose user is in them. Prints wall and processor time of each start. The store is not in
// the page cache then, as after a start of the machine (Linux only: elsewhere it is). Then what it costs to compare the
// rooms with LiveKit again and again, once V8 has optimized that.
// npm run build && node --import tsx bench/start-up.ts [sessions, 1000000] [starts, 5] [live rooms, 2000]
// With CPU_PROFILES=<folder>, each start leaves a profile there.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { openStore } from '../src/store/store.ts'
import { type Entrant, startFakeLiveKit } from './fake-livekit.ts'

const [SESSIONS = 1_000_000, STARTS = 5, LIVE = 2_000] = process.argv.slice(2).map(Number)
const PER_USER = 10
const PORT = 18_010
const WARM_UP_MS = 60_000
const COMPARING_MS = 120_000
const DAY_MS = 24 * 60 * 60 * 1000
const SERVER = fileURLToPath(new URL('../dist/server.js', import.meta.url))
// biome-ignore lint/style/noProcessEnv: the one option
const PROFILES = process.env.CPU_PROFILES

/** Fills a store: ended sessions of the last 80 days with three events each, and live ones. Returns who is in a room. */
async function fill(file: string): Promise<Entrant[]> {
  await (await openStore(`file:${file}`)).close()
  const raw = new Database(file)
  raw.pragma('synchronous = OFF')
  raw.pragma('cache_size = -400000')
  const now = Date.now()
  const hex = (number: number, digits: number) => number.toString(16).padStart(digits, '0')
  const userIdOf = (number: number) => `user_${hex(number, 44)}`
  const user = raw.prepare('insert into users (id, created_at, seen_at) values (?, ?, ?)')
  const session = raw.prepare(
    `insert into sessions (id, user_id, sign_in_id, room, status, created_at, token_expires_at, ended_at, end_reason,
      removed_at, last_seq, event_bytes, version) values (?, ?, 'fam_1', ?, ?, ?, ?, ?, ?, ?, 3, 90, 3)`,
  )
  const event = raw.prepare('insert into events (session_id, seq, type, data, created_at) values (?, ?, ?, ?, ?)')
  const presence = raw.prepare(
    `insert into presences (session_id, sid, joined_at, seen_at, confirmed_at, left_at) values (?, ?, ?, ?, ?, ?)`,
  )
  const entrants: Entrant[] = []
  raw.transaction(() => {
    const users = Math.max(Math.ceil(SESSIONS / PER_USER), LIVE)
    for (let i = 0; i < users; i++) user.run(userIdOf(i), now, now)
    for (let i = 0; i < SESSIONS + LIVE; i++) {
      const isLive = i >= SESSIONS
      const createdAt = isLive ? now - 60_000 : now - Math.floor((1 - i / SESSIONS) * 80 * DAY_MS) - 60_000
      // Nobody is in more sessions at once than the limit allows.
      const userId = userIdOf(isLive ? i - SESSIONS : Math.floor(i / PER_USER))
      const id = `sess_${hex(createdAt, 12)}${hex(i, 32)}`
      const name = `room_${hex(i, 32)}`
      const sid = `PA_${hex(i, 12)}`
      const ended = isLive
        ? ['live', createdAt, now, null, null, null]
        : ['ended', createdAt, createdAt, createdAt, 'left', createdAt]
      session.run(id, userId, name, ...ended)
      for (const seq of [1, 2, 3]) event.run(id, seq, 'session.status', '{"status":"live"}', createdAt)
      presence.run(id, sid, createdAt, createdAt, createdAt, isLive ? null : createdAt)
      if (isLive) entrants.push({ room: name, identity: userId, sid, attributes: { sessionId: id } })
    }
  })()
  raw.pragma('wal_checkpoint(TRUNCATE)')
  raw.close()
  return entrants
}

const isAnswered = (path: string) =>
  new Promise<boolean>((resolve) => {
    get({ port: PORT, path, agent: false }, (answer) => {
      answer.resume()
      resolve(answer.statusCode === 200)
    }).on('error', () => resolve(false))
  })

/** Milliseconds of processor time, of all threads. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * 10
}

function liveIn(file: string): unknown {
  const raw = new Database(file)
  const count = raw.prepare(`select count(*) from sessions where status = 'live'`).pluck().get()
  raw.close()
  return count
}

interface Start {
  live: number
  liveCpu: number
  ready: number
  readyCpu: number
}

function startService(databaseUrl: string, livekitUrl: string) {
  const profile = PROFILES === undefined ? [] : ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', PROFILES]
  return spawn(process.execPath, [...profile, SERVER], {
    env: {
      HOST: '127.0.0.1',
      PORT: String(PORT),
      DATABASE_URL: databaseUrl,
      LIVEKIT_URL: livekitUrl,
      LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'inherit', 'ignore'],
  })
}

async function start(databaseUrl: string, livekitUrl: string): Promise<Start> {
  const startedAt = performance.now()
  const server = startService(databaseUrl, livekitUrl)
  const exited = once(server, 'exit')
  const when = async (path: string) => {
    while (!(await isAnswered(path))) {
      if (server.exitCode !== null) throw new Error('the service has ended')
      await delay(10)
    }
    return [performance.now() - startedAt, cpuOf(server.pid as number)] as const
  }
  const [live, liveCpu] = await when('/health/live')
  const [ready, readyCpu] = await when('/health/ready')
  server.kill(PROFILES === undefined ? 'SIGKILL' : 'SIGTERM')
  await exited
  return { live, liveCpu, ready, readyCpu }
}

/** Microseconds of processor time for each compared room, everything else that the service then does included. */
async function comparing(databaseUrl: string, { url, compared }: Awaited<ReturnType<typeof startFakeLiveKit>>) {
  const server = startService(databaseUrl, url)
  const exited = once(server, 'exit')
  await delay(WARM_UP_MS)
  const before = [cpuOf(server.pid as number), await compared()] as const
  await delay(COMPARING_MS)
  const cpu = cpuOf(server.pid as number) - before[0]
  const rooms = (await compared()) - before[1]
  server.kill()
  await exited
  return `${((cpu * 1000) / rooms).toFixed(0)} µs of processor time for each of ${rooms} compared rooms`
}

const folder = mkdtempSync(join(tmpdir(), 'behalf-start-up-'))
const livekit = await startFakeLiveKit()
try {
  const file = join(folder, 'filled.db')
  await livekit.enter(await fill(file))
  const print = (label: string, { live, liveCpu, ready, readyCpu }: Start) =>
    process.stdout.write(
      `| ${label} | ${[live, liveCpu, ready, readyCpu].map((milliseconds) => milliseconds.toFixed(0)).join(' | ')} |\n`,
    )
  process.stdout.write(`\n${SESSIONS} stored sessions, ${LIVE} live rooms, Node ${process.version}; ms\n\n`)
  process.stdout.write('| start | first answer | CPU until then | ready | CPU until then |\n|---|---|---|---|---|\n')
  const starts: Start[] = []
  for (let i = 1; i <= STARTS; i++) {
    spawnSync('dd', [`of=${file}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'])
    const one = await start(`file:${file}`, livekit.url)
    print(String(i), one)
    starts.push(one)
    const stillLive = liveIn(file)
    if (stillLive !== LIVE) throw new Error(`After start ${i} only ${stillLive} sessions are live.`)
  }
  const median = (field: keyof Start) =>
    starts.map((one) => one[field]).sort((a, b) => a - b)[Math.floor(STARTS / 2)] as number
  const medians = {
    live: median('live'),
    liveCpu: median('liveCpu'),
    ready: median('ready'),
    readyCpu: median('readyCpu'),
  }
  print('median', medians)
  process.stdout.write(`\n${await comparing(`file:${file}`, livekit)}\n`)
} finally {
  livekit.stop()
  rmSync(folder, { recursive: true, force: true })
}
