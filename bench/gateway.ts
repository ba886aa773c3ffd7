// What the gateway costs: the time from a dispatch to its job at a worker, through the service and directly, in turns; and
// the memory of the service's process per connected worker. Needs a livekit-server with livekit.yaml's key pair.
// npx tsx bench/gateway.ts [ws://127.0.0.1:7880]
import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import {
  AvailabilityResponse,
  RegisterWorkerRequest,
  ServerMessage,
  UpdateWorkerStatus,
  WorkerMessage,
} from '@livekit/protocol'
import { AccessToken, AgentDispatchClient, RoomServiceClient } from 'livekit-server-sdk'
import { WebSocket } from 'ws'
import { startService } from '../src/start.ts'

const JOBS = 50
const WORKERS = 500
const PORT = 18_009
const URL_BASE = `http://127.0.0.1:${PORT}`
const LIVEKIT = { url: process.argv[2] ?? 'ws://127.0.0.1:7880', key: 'devkey', secret: 'secret' }

interface Usage {
  /** Bytes. */
  rss: number
  heapUsed: number
}

function serve(): void {
  const tell = () => {
    globalThis.gc?.()
    globalThis.gc?.()
    process.send?.(process.memoryUsage())
  }
  startService({ extend: () => void process.on('message', tell) })
}

async function usageOf(server: ChildProcess): Promise<Usage> {
  server.send('usage')
  const [usage] = await once(server, 'message', { signal: AbortSignal.timeout(10_000) })
  return usage
}

/** Registers a worker that takes every job, as the SDKs do; tells when a job has been assigned. */
async function connect(url: string, key: string, secret: string, agentName: string, onAssigned: () => void = () => {}) {
  const token = new AccessToken(key, secret)
  token.addGrant({ agent: true })
  const headers = { authorization: `Bearer ${await token.toJwt()}` }
  const socket = new WebSocket(`${url.replace('http', 'ws')}/agent`, { headers })
  const send = (message: WorkerMessage['message']) => socket.send(new WorkerMessage({ message }).toBinary())
  await once(socket, 'open')
  const registered = once(socket, 'message')
  send({ case: 'register', value: new RegisterWorkerRequest({ agentName }) })
  await registered
  send({ case: 'updateWorker', value: new UpdateWorkerStatus({ load: 0 }) })
  socket.on('message', (data: Buffer) => {
    const { case: kind, value } = ServerMessage.fromBinary(data).message
    if (kind === 'availability') {
      const jobId = value.job?.id ?? ''
      const participantIdentity = `agent-${jobId}`
      send({ case: 'availability', value: new AvailabilityResponse({ jobId, available: true, participantIdentity }) })
    } else if (kind === 'assignment') onAssigned()
  })
  return socket
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

async function post(path: string, body: unknown, bearer?: string): Promise<Record<string, unknown>> {
  const answer = await fetch(`${URL_BASE}${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) },
    body: JSON.stringify(body),
  })
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  return (await answer.json()) as Record<string, unknown>
}

async function measure(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-bench-'))
  const env = {
    HOST: '127.0.0.1',
    PORT: String(PORT),
    DATABASE_URL: `file:${join(folder, 'bench.db')}`,
    LIVEKIT_URL: LIVEKIT.url,
    LOG_LEVEL: 'silent',
  }
  const create = ['--import', 'tsx', fileURLToPath(new URL('../src/cli.ts', import.meta.url)), 'agent', 'create']
  const created = execFileSync(process.execPath, [...create, 'bench', '--json'], { env, encoding: 'utf8' })
  const { secret } = JSON.parse(created) as { secret: string }
  const server = fork(fileURLToPath(import.meta.url), ['serve'], {
    execArgv: ['--expose-gc', '--import', 'tsx'],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env,
  })
  try {
    for (let tries = 0; tries < 200 && !(await fetch(`${URL_BASE}/health/ready`).catch(() => undefined))?.ok; tries++)
      await delay(50)
    const bearer = String((await post('/auth/guest', {})).access_token)
    const request = { room_config: { agents: [{ agent_name: 'bench' }] } }
    const minted = await post('/token', request, bearer)
    const [room, userId] = [String(minted.room), String(minted.identity)]
    // Of a session, so that what is stored about its jobs counts, too.
    const metadata = JSON.stringify({ userId, sessionId: minted.session_id, room })
    await new RoomServiceClient(LIVEKIT.url, LIVEKIT.key, LIVEKIT.secret).createRoom({ name: room })
    const dispatches = new AgentDispatchClient(LIVEKIT.url, LIVEKIT.key, LIVEKIT.secret)

    let onAssigned = () => {}
    const direct = await connect(LIVEKIT.url, LIVEKIT.key, LIVEKIT.secret, 'direct', () => onAssigned())
    const through = await connect(URL_BASE, 'bench', secret, 'bench', () => onAssigned())
    const times: Record<string, number[]> = { direct: [], bench: [] }
    for (let i = 0; i < 2 * (JOBS + 5); i++) {
      const name = i % 2 === 0 ? 'direct' : 'bench'
      const assigned = new Promise<void>((resolve) => {
        onAssigned = resolve
      })
      const startedAt = performance.now()
      const { id } = await dispatches.createDispatch(room, name, { metadata })
      await assigned
      // The first ones only warm up.
      if (i >= 10) times[name]?.push(performance.now() - startedAt)
      await dispatches.deleteDispatch(id, room)
    }
    direct.close()
    through.close()
    await delay(1_000)

    const before = await usageOf(server)
    for (let opened = 0; opened < WORKERS; opened += 20)
      await Promise.all(Array.from({ length: 20 }, () => connect(URL_BASE, 'bench', secret, 'bench')))
    await delay(2_000)
    const open = await usageOf(server)
    const kilobytes = (field: keyof Usage) => `${((open[field] - before[field]) / WORKERS / 1024).toFixed(1)} kB`
    const [to, over] = [median(times.direct ?? []), median(times.bench ?? [])]
    process.stdout.write(
      `${[
        `Node ${process.version}; from a dispatch to its job at the worker, median of ${JOBS}:`,
        `direct ${to.toFixed(2)} ms, through the gateway ${over.toFixed(2)} ms`,
        `per connected worker, of ${WORKERS}: ${kilobytes('rss')} RSS, ${kilobytes('heapUsed')} heap`,
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
  process.exit(0)
}
