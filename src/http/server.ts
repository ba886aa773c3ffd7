import type { Server } from 'node:http'
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
  maxConnections: 16_384,
}

type Fetch = Parameters<typeof serve>[0]['fetch']

/** Serves by HTTP, within limits that slow and idle clients cannot stretch. */
export function listen(fetch: Fetch, { host, port }: { host: string; port: number }, limits = SERVER_LIMITS): Server {
  const { maxConnections, ...serverOptions } = limits
  const server = serve({ fetch, hostname: host, port, serverOptions }) as Server
  server.maxConnections = maxConnections
  return server
}
