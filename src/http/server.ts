import {
  createServer,
  IncomingMessage,
  type OutgoingHttpHeaders,
  type RequestListener,
  type Server,
  type ServerOptions,
  ServerResponse,
} from 'node:http'
import type { Socket } from 'node:net'
import { serve, type WebSocketServerLike } from '@hono/node-server'
import { WebSocketServer } from 'ws'
import type { Config } from '../config.ts'
import { addressKey, trustedPeers } from './address.ts'

export interface ServerLimits {
  /** Milliseconds in which a request's headers must arrive, from the connection or the headers' first byte on. */
  headersTimeout: number
  /** Milliseconds in which a whole request must arrive; the answer may take longer. */
  requestTimeout: number
  /** Milliseconds that a connection may wait for its next request. */
  keepAliveTimeout: number
  /** Milliseconds between two checks of these timeouts. */
  connectionsCheckingInterval: number
  /** Bytes; more is answered with 431. */
  maxHeaderSize: number
  /** Milliseconds that a connection may be idle while an answer is due; streams write more often than that. */
  stallTimeout: number
  /** The same once the whole answer is written and only the client has yet to read it. */
  unreadTimeout: number
  /** Bytes written to all connections and not read by clients. Beyond it, the longest-waiting answers are cut off. */
  maxUnreadBytes: number
  /** Pipelined requests of one connection, answered in turn: current clients do not pipeline. */
  maxPipelined: number
  /** Bytes of one WebSocket message. */
  maxMessageSize: number
  /** Further connections are closed at once, so that descriptors remain for files and LiveKit. */
  maxConnections: number
}

/** Far above what a working client needs, far below Node's defaults, which give a slow client minutes. */
export const SERVER_LIMITS: ServerLimits = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  // Longer than the 60 s that load balancers keep connections: otherwise they would send into closed ones.
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 2_000,
  maxHeaderSize: 16 * 1024,
  stallTimeout: 120_000,
  unreadTimeout: 30_000,
  maxUnreadBytes: 64 * 1024 * 1024,
  maxPipelined: 8,
  maxMessageSize: 1024 * 1024,
  maxConnections: 16_384,
}

type Fetch = Parameters<typeof serve>[0]['fetch']
type Listening = Pick<Config, 'host' | 'port' | 'connectionsPerAddress' | 'trustedProxies'>

/** Serves HTTP, within limits that slow and idle clients cannot stretch. */
export function listen(fetch: Fetch, config: Listening, limits = SERVER_LIMITS): Server {
  const {
    maxConnections,
    maxPipelined,
    maxMessageSize,
    stallTimeout,
    unreadTimeout,
    maxUnreadBytes,
    ...serverOptions
  } = limits
  const AccountedResponse = accountedResponse(unreadBudget(maxUnreadBytes), unreadTimeout)
  const limited = ((options: ServerOptions, handle: RequestListener) =>
    createServer(
      // Node would answer a request without a Host itself, past the queue: the app refuses it instead.
      {
        ...options,
        IncomingMessage: Incoming,
        ServerResponse: AccountedResponse as typeof ServerResponse,
        requireHostHeader: false,
      },
      oneAtATime(handle, maxPipelined, stallTimeout),
    )) as typeof createServer
  const server = serve({
    fetch,
    hostname: config.host,
    port: config.port,
    serverOptions,
    createServer: limited,
    websocket: {
      server: new WebSocketServer({
        noServer: true,
        clientTracking: false,
        maxPayload: maxMessageSize,
        perMessageDeflate: false,
      }) as WebSocketServerLike,
    },
  }) as Server
  server.maxConnections = maxConnections
  server.timeout = stallTimeout
  // Node would answer an unknown Expect itself, past the queue as well; current clients do not send one.
  server.on('checkExpectation', ({ socket }: IncomingMessage) => socket.destroy())
  if (config.connectionsPerAddress > 0) limitConnections(server, config)
  return server
}

/**
 * Once WebSockets are served, Node hands over every request with an `Upgrade` without its body, even the `Upgrade: h2c`
 * that Java's HTTP client sends by default. Here all but those for the gateway stay ordinary requests.
 */
class Incoming extends IncomingMessage {
  // Without a value of its own: Node's constructor sets `upgrade` before those are.
  declare private asksUpgrade: boolean
  get upgrade(): boolean {
    const isForWorkers = this.method === 'GET' && /^\/agent(?:\?|$)/.test(this.url ?? '')
    return this.asksUpgrade && isForWorkers && this.headers.upgrade?.toLowerCase() === 'websocket'
  }
  set upgrade(upgrade: boolean) {
    this.asksUpgrade = upgrade
  }
}

/**
 * Node hands over all pipelined requests of one read at once. Here the next one waits until the previous answer has
 * left the process, so that a connection never holds two; too many waiting requests close it.
 */
function oneAtATime(handle: RequestListener, max: number, stallTimeout: number): RequestListener {
  const queues = new WeakMap<Socket, Array<() => void>>()
  return (incoming, outgoing) => {
    const { socket } = incoming
    // Node still hands over requests that it read before the socket was destroyed.
    if (socket.destroyed) return
    const queue = queues.get(socket) ?? []
    queues.set(socket, queue)
    if (queue.length >= max) {
      socket.destroy()
      return
    }
    const start = () => {
      // The client is gone, or was told that this connection closes.
      if (!socket.writable) return
      socket.setTimeout(stallTimeout)
      outgoing.once('close', () => {
        queue.shift()
        queue[0]?.()
      })
      handle(incoming, outgoing)
    }
    queue.push(start)
    if (queue.length === 1) start()
  }
}

type Hold = (answer: ServerResponse, bytes: number) => void

/** Bytes written to clients that wait in this process because the clients do not read. */
function unreadBudget(maxBytes: number): Hold {
  const unread = new Map<ServerResponse, number>()
  let total = 0

  function release(this: ServerResponse): void {
    this.off('drain', release).off('close', release)
    total -= unread.get(this) ?? 0
    unread.delete(this)
  }

  return function hold(answer, bytes) {
    if (answer.destroyed) return
    if (!unread.has(answer)) answer.on('drain', release).on('close', release)
    unread.set(answer, (unread.get(answer) ?? 0) + bytes)
    total += bytes
    for (const [oldest] of unread) {
      if (total <= maxBytes) return
      oldest.destroy()
      release.call(oldest)
    }
  }
}

const bytesOf = (chunk: unknown) =>
  typeof chunk === 'string' || chunk instanceof Uint8Array ? Buffer.byteLength(chunk) : 0

export const REQUEST_ID = 'x-request-id'

/** The server's response, with what passes the app by. */
export class ServiceResponse extends ServerResponse {
  /** Headers that are sent unless the answer has its own; names in lower case. */
  commonHeaders: ReadonlyArray<readonly [name: string, value: string]> = []
  /** For a route that writes the body itself and answers without one: called once the head is written. */
  startStream: (() => void) | undefined

  override writeHead(status: number, ...args: unknown[]): this {
    const headers: OutgoingHttpHeaders = {}
    for (const [name, value] of this.commonHeaders) headers[name] = value
    const own = Object.entries((args.at(-1) ?? {}) as OutgoingHttpHeaders)
    for (const [given, value] of own) {
      const name = given.toLowerCase()
      const common = headers[name]
      // A route may pass on another server's answer: the request's id is still the log's.
      if (name === REQUEST_ID && common !== undefined) continue
      headers[name] = name === 'vary' && common !== undefined ? `${value}, ${common}` : value
    }
    return super.writeHead(status, headers)
  }

  override end(...args: unknown[]): this {
    const start = this.startStream
    this.startStream = undefined
    // Any other answer, such as a middleware's error, has a body.
    if (start && this.headersSent && args.length === 0) {
      start()
      return this
    }
    return Reflect.apply(super.end, this, args) as this
  }
}

/** A response whose bytes count against the budget until its connection accepts them, whatever the route. */
function accountedResponse(hold: Hold, unreadTimeout: number) {
  return class AccountedResponse extends ServiceResponse {
    override write(...args: unknown[]): boolean {
      const hasRoom: boolean = Reflect.apply(super.write, this, args)
      if (!hasRoom) hold(this, bytesOf(args[0]))
      return hasRoom
    }

    override end(...args: unknown[]): this {
      super.end(...args)
      if (this.writableEnded && !this.writableFinished) {
        this.socket?.setTimeout(unreadTimeout)
        hold(this, bytesOf(args[0]))
      }
      return this
    }
  }
}

/** A trusted proxy connects for many clients and is not limited. */
function limitConnections(server: Server, { connectionsPerAddress, trustedProxies }: Listening): void {
  const isTrusted = trustedPeers(trustedProxies)
  const open = new Map<string, number>()
  server.on('connection', (socket: Socket) => {
    const { remoteAddress = '' } = socket
    if (isTrusted(remoteAddress)) return
    const key = addressKey(remoteAddress)
    const count = open.get(key) ?? 0
    if (count >= connectionsPerAddress) {
      socket.destroy()
      return
    }
    open.set(key, count + 1)
    socket.once('close', () => {
      const left = (open.get(key) ?? 1) - 1
      if (left > 0) open.set(key, left)
      else open.delete(key)
    })
  })
}
