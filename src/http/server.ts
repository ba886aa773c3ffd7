import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http'
import type { Socket } from 'node:net'
import { serve } from '@hono/node-server'

export interface ServerLimits {
  /** Milliseconds until the header of a request has to be there, from the connection or the header's first byte on. */
  headersTimeout: number
  /** Milliseconds until all of a request has to be there; its answer may take as long as it likes. */
  requestTimeout: number
  /** Milliseconds that a connection may wait for its next request. */
  keepAliveTimeout: number
  /** Milliseconds between two looks at these timeouts. */
  connectionsCheckingInterval: number
  /** Bytes; more is answered with 431. */
  maxHeaderSize: number
  /** Milliseconds that nothing may move on a connection while an answer is due; streams write more often than that. */
  stallTimeout: number
  /** Requests of one connection under way at once: no client of today sends a second before it has its answer. */
  maxPipelined: number
  /** Further connections are closed at once, so that files and LiveKit stay within reach. */
  maxConnections: number
}

/** Far above any client that works, far below Node's own, which leave a slow client minutes. */
export const SERVER_LIMITS: ServerLimits = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  // Longer than the 60 s that load balancers keep connections for: they would send into closed ones otherwise.
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 2_000,
  maxHeaderSize: 16 * 1024,
  stallTimeout: 120_000,
  maxPipelined: 8,
  maxConnections: 16_384,
}

type Fetch = Parameters<typeof serve>[0]['fetch']

/** Serves by HTTP, within limits that slow and idle clients cannot stretch. */
export function listen(fetch: Fetch, { host, port }: { host: string; port: number }, limits = SERVER_LIMITS): Server {
  const { maxConnections, maxPipelined, stallTimeout, ...serverOptions } = limits
  const limited = ((options: ServerOptions, handle: RequestListener) =>
    createServer(options, limitPipelining(handle, maxPipelined))) as typeof createServer
  const server = serve({ fetch, hostname: host, port, serverOptions, createServer: limited }) as Server
  server.maxConnections = maxConnections
  server.timeout = stallTimeout
  return server
}

/** Node hands over all requests of one read at once, and keeps every answer that nobody reads: too many end the connection. */
function limitPipelining(handle: RequestListener, max: number): RequestListener {
  const underWay = new WeakMap<Socket, number>()
  return (incoming, outgoing) => {
    const { socket } = incoming
    const count = underWay.get(socket) ?? 0
    // What was read before it was destroyed is still handed over.
    if (socket.destroyed) return
    if (count >= max) {
      socket.destroy()
      return
    }
    underWay.set(socket, count + 1)
    outgoing.once('close', () => underWay.set(socket, (underWay.get(socket) ?? 1) - 1))
    handle(incoming, outgoing)
  }
}
