import { type AddressInfo, connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, expect, vi } from 'vitest'
import type { Config } from '../src/config.ts'
import { listen, SERVER_LIMITS } from '../src/http/server.ts'

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

interface Served {
  app: { fetch: Parameters<typeof listen>[0] }
  config: Config
}

/** An app behind the service's own server until the test is over. */
export async function served({ app, config }: Served, limits = SERVER_LIMITS) {
  const server = listen(app.fetch, { ...config, host: '127.0.0.1', port: 0 }, limits)
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  await vi.waitFor(() => expect(server.listening).toBe(true), 10_000)
  const { port } = server.address() as AddressInfo
  return { server, port, url: `http://127.0.0.1:${port}` }
}

export const lines = (...head: string[]) => `${head.join('\r\n')}\r\n`

export function dial(port: number): Socket {
  const socket = connect(port, '127.0.0.1').on('error', () => {})
  cleanups.push(() => socket.destroy())
  return socket
}

/** What the server says on a connection until it closes it. */
export async function said(socket: Socket, bytes: string) {
  socket.write(bytes)
  const answer = await text(socket).catch(() => 'reset')
  return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0), answer }
}

export const isUp = async (url: string) => expect((await fetch(`${url}/health/live`)).status).toBe(200)
