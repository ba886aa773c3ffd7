import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import {
  AvailabilityRequest,
  type Job,
  JobAssignment,
  RegisterWorkerRequest,
  RegisterWorkerResponse,
  ServerMessage,
  WorkerMessage,
} from '@livekit/protocol'
import { decodeJwt, type JWTPayload } from 'jose'
import { AccessToken } from 'livekit-server-sdk'
import { afterEach, vi } from 'vitest'
import { type RawData, WebSocket, WebSocketServer } from 'ws'
import { served } from './raw-connections.ts'
import { scene } from './scene.ts'

const sockets: WebSocket[] = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.terminate()
})

/** A worker's connection as LiveKit has it. */
interface Registered {
  socket: WebSocket
  url: string
  claims: JWTPayload
  /** As it arrived. */
  frames: Buffer[]
  messages: WorkerMessage[]
}

type ServerCase = NonNullable<ConstructorParameters<typeof ServerMessage>[0]>['message']
type WorkerCase = NonNullable<ConstructorParameters<typeof WorkerMessage>[0]>['message']

export const serverMessage = (message: NonNullable<ServerCase>) => new ServerMessage({ message }).toBinary()
export const workerMessage = (message: NonNullable<WorkerCase>) => new WorkerMessage({ message }).toBinary()
export const register = (agentName: string) =>
  workerMessage({ case: 'register', value: new RegisterWorkerRequest({ agentName, version: '1.9.0' }) })
export const offer = (job: Job) => serverMessage({ case: 'availability', value: new AvailabilityRequest({ job }) })
export const assign = (job: Job, url?: string) =>
  serverMessage({
    case: 'assignment',
    value: new JobAssignment({ job, token: 'of the room', ...(url ? { url } : {}) }),
  })

/** The half of LiveKit that workers connect to: registers each, and records what it says. */
export function livekitWorkers(server: {
  on(event: 'upgrade', take: (...args: [IncomingMessage, Duplex, Buffer]) => void): unknown
}) {
  const accepting = new WebSocketServer({ noServer: true })
  const registered: Registered[] = []
  const fake = { registered, isUp: true, answersPings: true }
  server.on('upgrade', (request, socket, head) => {
    if (!fake.isUp) return void socket.end('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n')
    accepting.handleUpgrade(request, socket, head, (ws) => {
      sockets.push(ws)
      const token = String(request.headers.authorization).replace('Bearer ', '')
      const worker: Registered = {
        socket: ws,
        url: String(request.url),
        claims: decodeJwt(token),
        frames: [],
        messages: [],
      }
      registered.push(worker)
      ws.on('message', (data: RawData) => {
        const message = WorkerMessage.fromBinary(data as Buffer)
        worker.frames.push(data as Buffer)
        worker.messages.push(message)
        if (message.message.case !== 'register') return
        const value = new RegisterWorkerResponse({ workerId: `AW_${registered.length}` })
        ws.send(serverMessage({ case: 'register', value }))
      })
    })
  })
  return fake
}

/** A worker as the service's gateway has it: a socket, and what it was told. */
export function connectWorker(url: string, token: string, options: { query?: string; autoPong?: boolean } = {}) {
  const { query = '', ...more } = options
  const socket = new WebSocket(`${url.replace('http', 'ws')}/agent${query}`, {
    headers: { authorization: `Bearer ${token}` },
    perMessageDeflate: false,
    ...more,
  })
  sockets.push(socket)
  const frames: Buffer[] = []
  socket.on('message', (data: RawData) => frames.push(data as Buffer))
  /** `open`, or the status that the handshake is refused with. */
  const outcome = new Promise<number | 'open'>((resolve) => {
    socket.on('open', () => resolve('open'))
    socket.on('unexpected-response', (request, { statusCode = 0 }) => {
      resolve(statusCode)
      request.destroy()
    })
    socket.on('error', () => resolve(0))
  })
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.on('close', (code, reason) => resolve({ code, reason: String(reason) }))
  })
  const messages = () => frames.map((frame) => ServerMessage.fromBinary(frame).message)
  return { socket, frames, messages, outcome, closed }
}

/** What LiveKit's SDKs sign for each connection. */
export async function workerToken(id: string, secret: string): Promise<string> {
  const token = new AccessToken(id, secret)
  token.addGrant({ agent: true })
  return token.toJwt()
}

/** A service with one agent account, behind its own server, and a LiveKit that takes workers. */
export async function workerScene(options?: Parameters<typeof scene>[0]) {
  const s = await scene(options)
  const livekit = livekitWorkers(s.sfu.server)
  const agent = await s.newAgent('tutor')
  const { port, url } = await served(s)
  const connect = async (token?: string) => connectWorker(url, token ?? (await workerToken(agent.id, agent.secret)))
  return {
    s,
    agent,
    livekit,
    port,
    url,
    connect,
    /** A worker that has registered, and LiveKit's end of its connection. */
    async registered() {
      const worker = await connect()
      await worker.outcome
      worker.socket.send(register('tutor'))
      await vi.waitFor(() => worker.messages().some(({ case: kind }) => kind === 'register') || Promise.reject())
      const atLiveKit = livekit.registered.at(-1)
      if (!atLiveKit) throw new Error('not registered')
      return { ...worker, atLiveKit }
    },
  }
}
