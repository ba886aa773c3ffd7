// Starts the processes of a run: each server alone on one core, everything else on another.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { cpSync, existsSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freeTcpPort, until } from '../test/e2e/processes.ts'
import type { Behaviour, Heard } from './livekit.ts'
import { PUBLIC_URL } from './store.ts'

export const LIVEKIT_KEY = { key: 'benchkey', secret: createHash('sha256').update('bench').digest('hex') }

const HERE = fileURLToPath(new URL('.', import.meta.url))
const CORES = cpus().length
/** Without a second core both are the same one. */
const LOAD_CORE = 0
const SERVER_CORE = CORES - 1
export const pinning =
  CORES > 1
    ? `servers on core ${SERVER_CORE}; wrk, the LiveKit stub and the runner on core ${LOAD_CORE}`
    : 'ONE CORE for server and load: rates are about half of what they would be, and latencies are not comparable'

const on = (core: number, command: string[]) => (CORES > 1 ? ['taskset', '-c', String(core), ...command] : command)

/** Moves this process, and with it everything that it starts without `on`, off the servers' core. */
export function leaveServerCore(): void {
  if (CORES > 1) execFileSync('taskset', ['-acp', String(LOAD_CORE), String(process.pid)], { stdio: 'ignore' })
}

const children: ChildProcess[] = []

function start(command: string[], options: { env?: Record<string, string>; errors?: string; ipc?: boolean } = {}) {
  const [program = '', ...args] = command
  const stderr = options.errors === undefined ? 'ignore' : openSync(options.errors, 'a')
  const child = spawn(program, args, {
    ...(options.env ? { env: options.env } : {}),
    stdio: ['ignore', 'ignore', stderr, ...(options.ipc ? (['ipc'] as const) : [])],
    detached: true,
  })
  children.push(child)
  return child
}

/** Ends them at once, with what they started. */
export function stopAll(): void {
  for (const { pid, exitCode, signalCode } of children) {
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL')
  }
}

const childOf = (pid: number | undefined): number =>
  Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')[0])

export interface Server {
  url: string
  /** CPU time of all of its threads so far, in microseconds. */
  cpuMicros(): number
  /** Lets it end by itself. */
  stop(): Promise<void>
}

const TICK_MICROS = 10_000

function serverOf(port: number, child: ChildProcess, pid = () => child.pid): Server {
  return {
    url: `http://127.0.0.1:${port}`,
    cpuMicros() {
      const fields = readFileSync(`/proc/${pid()}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
      return (Number(fields[11]) + Number(fields[12])) * TICK_MICROS
    },
    async stop() {
      child.kill()
      await once(child, 'exit')
    },
  }
}

async function listening(what: string, child: ChildProcess, ready: string, errors?: string): Promise<void> {
  await until(
    `${what} answers`,
    async () => {
      if (child.exitCode !== null) return false
      return (await fetch(ready)).status < 500
    },
    60,
  ).catch((error: unknown) => {
    const said = errors === undefined ? '' : readFileSync(errors, 'utf8').slice(-2000)
    throw new Error(`${what} did not start: ${said}`, { cause: error })
  })
}

/** Far above what any run reaches. The counting itself stays, as in production. */
const RATE = '100000000'
const SERVICE_SETTINGS = {
  NODE_ENV: 'production',
  HOST: '127.0.0.1',
  PUBLIC_URL,
  LIVEKIT_API_KEY: LIVEKIT_KEY.key,
  LIVEKIT_API_SECRET: LIVEKIT_KEY.secret,
  SIGN_INS_PER_ADDRESS_PER_MINUTE: RATE,
  REFRESHES_PER_ADDRESS_PER_MINUTE: RATE,
  REQUESTS_PER_USER_PER_MINUTE: RATE,
  READS_PER_USER_PER_MINUTE: RATE,
  REQUESTS_PER_AGENT_PER_MINUTE: RATE,
  CONNECTIONS_PER_ADDRESS: '1000000',
  // As rarely as can be: a run into which a comparison with LiveKit falls is repeated.
  RECONCILE_SECONDS: '300',
  // Users are confirmed as present before a run: on a slow machine that is more than the usual 10 s before its end.
  LIVENESS_SECONDS: '60',
}

/** The built service on that store, with these flags of node. With `fsyncMs` every fsync takes so much longer, by strace. */
export async function startService(
  path: string,
  livekitPort: number,
  fsyncMs: number,
  flags: string[] = [],
): Promise<Server> {
  const port = await freeTcpPort()
  const program = on(SERVER_CORE, [process.execPath, ...flags, join(HERE, '../dist/server.js')])
  const delay = `inject=fsync,fdatasync:delay_exit=${fsyncMs * 1000}`
  const traced = ['strace', '-f', '--seccomp-bpf', '-qq', '-o', '/dev/null', '-e', 'trace=fsync,fdatasync', '-e', delay]
  const child = start(fsyncMs > 0 ? [...traced, ...program] : program, {
    env: {
      ...SERVICE_SETTINGS,
      PATH: '/usr/local/bin:/usr/bin:/bin',
      PORT: String(port),
      DATABASE_URL: `file:${path}`,
      LIVEKIT_URL: `ws://127.0.0.1:${livekitPort}`,
    },
    errors: `${path}.errors`,
  })
  const pid = () => (fsyncMs > 0 ? childOf(child.pid) : child.pid)
  await listening('the service', child, `http://127.0.0.1:${port}/health/ready`, `${path}.errors`)
  return serverOf(port, child, pid)
}

/** One of small-servers.ts. */
export async function startSmall(name: string, errors: string, args: string[]): Promise<Server> {
  const port = await freeTcpPort()
  const command = [process.execPath, '--import', 'tsx', join(HERE, 'small-servers.ts'), name, String(port)]
  const child = start(on(SERVER_CORE, [...command, LIVEKIT_KEY.key, LIVEKIT_KEY.secret, ...args]), { errors })
  await listening(name, child, `http://127.0.0.1:${port}/`, errors)
  return serverOf(port, child)
}

export type Livekit = Awaited<ReturnType<typeof startLivekit>>

export async function startLivekit() {
  const port = await freeTcpPort()
  const child = start([process.execPath, '--import', 'tsx', join(HERE, 'livekit.ts'), String(port)], { ipc: true })
  await listening('the LiveKit stub', child, `http://127.0.0.1:${port}/`)
  return {
    port,
    async behave(behaviour: Behaviour): Promise<Heard> {
      child.send(behaviour)
      const [heard] = await once(child, 'message')
      return heard
    },
  }
}

export const PEERS = {
  express: {
    what: 'Express + livekit-server-sdk',
    needs: ['npm', '--version'],
    install: 'npm install --omit=dev --no-audit --no-fund --silent',
    command: [process.execPath, 'server.js'],
  },
  fastapi: {
    what: 'FastAPI + livekit-api, uvicorn with one worker',
    needs: ['python3', '-c', 'import ensurepip, venv'],
    install: 'python3 -m venv . && bin/python -m pip install --quiet -r requirements.txt',
    command: ['bin/python', 'server.py'],
  },
  go: {
    what: 'Go net/http + livekit/protocol/auth, GOMAXPROCS=1',
    needs: ['go', 'version'],
    install: 'go build -o server .',
    command: ['env', 'GOMAXPROCS=1', './server'],
  },
} as const
export type Peer = keyof typeof PEERS

/** Installs the peer in the cache folder, anew when its files have changed, and starts it. @throws Error saying why it cannot be */
export async function startPeer(name: Peer, errors: string): Promise<Server> {
  const { needs, install, command } = PEERS[name]
  const source = join(HERE, 'peers', name)
  const hash = createHash('sha256')
  for (const file of readdirSync(source).sort()) hash.update(readFileSync(join(source, file)))
  const folder = join(homedir(), '.cache/behalf', `bench-${name}-${hash.digest('hex').slice(0, 12)}`)
  if (!existsSync(join(folder, 'complete'))) {
    try {
      execFileSync(needs[0], needs.slice(1), { stdio: 'ignore' })
    } catch {
      throw new Error(`${needs.join(' ')} does not run here`)
    }
    process.stderr.write(`installing the peer ${name} (once)\n`)
    rmSync(folder, { recursive: true, force: true })
    cpSync(source, folder, { recursive: true })
    execFileSync('sh', ['-c', install], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] })
    writeFileSync(join(folder, 'complete'), '')
  }
  const port = await freeTcpPort()
  const run = ['env', '-C', folder, ...command, String(port), LIVEKIT_KEY.key, LIVEKIT_KEY.secret]
  const child = start(on(SERVER_CORE, run), { errors })
  await listening(name, child, `http://127.0.0.1:${port}/`, errors)
  return serverOf(port, child)
}
