import type { Socket } from 'node:net'
import type { HttpBindings } from '@hono/node-server'
import { describe, expect, test, vi } from 'vitest'
import { SERVER_LIMITS, type ServerLimits } from '../src/http/server.ts'
import { reportDirectly } from './direct-sessions.ts'
import { dial, isUp, lines, served } from './raw-connections.ts'
import { callingScene } from './scene.ts'

/** More than the kernel buffers for a connection whose client does not read. */
const LONG = 24 * 1024 * 1024
const ask = (path: string) => lines(`GET ${path} HTTP/1.1`, 'Host: x', '')
const statuses = (text: string) => [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status))

/** The app, a long answer at /long beside it, the paths that were asked for, and the service's ends of their connections. */
async function longWinded(limits: Partial<ServerLimits>) {
  const scene = await callingScene()
  const { bare, config } = scene.s
  const text = 'x'.repeat(LONG)
  const asked: string[] = []
  const connections: Array<Socket | undefined> = []
  const fetch: typeof bare = (request, env, ...rest) => {
    const path = new URL(request.url).pathname
    asked.push(path)
    connections.push((env as HttpBindings).incoming.socket)
    return path === '/long' ? new Response(text) : bare(request, env, ...rest)
  }
  const isCut = (index: number) => connections[index]?.destroyed
  const untilCut = (index: number) => vi.waitFor(() => expect(isCut(index)).toBe(true), 10_000)
  return {
    ...scene,
    asked,
    isCut,
    untilCut,
    ...(await served({ app: { fetch }, config }, { ...SERVER_LIMITS, ...limits })),
  }
}

/** A client that sends requests and reads nothing until the test says so. */
function lazy(port: number, requests: string) {
  const socket = dial(port).pause()
  socket.write(requests)
  return {
    /** Takes everything from now on; what came so far, but for the filling. */
    read() {
      let text = ''
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString().replaceAll(/x{2,}/g, '')
      })
      socket.resume()
      return () => text
    },
  }
}

describe('behind a streaming answer', () => {
  test.each([
    ['without a Host', 'GET / HTTP/1.1', ''],
    ['with an Expect that means nothing', 'GET / HTTP/1.1', 'Host: x', 'Expect: z', ''],
  ])('requests %s wait in the pipeline, and too many end the connection', async (_, ...request) => {
    const { s, user, pair, port, asked, untilCut } = await longWinded({})
    const headers = ['Host: x', `Authorization: Bearer ${user.bearer}`, 'Accept: text/event-stream', '']
    const stream = lines(`GET /sessions/${pair.sessionId}/events HTTP/1.1`, ...headers)
    const socket = dial(port)
    socket.write(stream)
    await vi.waitFor(() => expect(asked).toHaveLength(1), 10_000)
    socket.write(lines(...request).repeat(100))
    await untilCut(0)
    expect(asked).toHaveLength(1)
    expect((await s.app.request('/health/live')).status).toBe(200)
  })
})

describe('a client that does not read its answers', () => {
  test('gets one answer per connection, and the next after it has read that one', async () => {
    const { port, url, asked } = await longWinded({ maxUnreadBytes: 6 * LONG })
    const clients = Array.from({ length: 5 }, () => lazy(port, ask('/long').repeat(2) + ask('/health/live')))
    await vi.waitFor(() => expect(asked).toHaveLength(5), 10_000)
    await isUp(url)
    expect(asked).toEqual([...Array(5).fill('/long'), '/health/live'])
    const said = clients[0]?.read()
    await vi.waitFor(() => expect(statuses(said?.() ?? '')).toEqual([200, 200, 200]), 10_000)
    expect(asked.slice(6)).toEqual(['/long', '/health/live'])
  })

  test('is disconnected after a while', async () => {
    const { port, url, s, agent, pair, asked, untilAsked, isCut, untilCut } = await longWinded({ unreadTimeout: 200 })
    const body = JSON.stringify({ ...pair, data: {} })
    const release = s.sfu.hold()
    const head = ['POST /agent/progress HTTP/1.1', 'Host: x', `Authorization: Bearer ${agent.bearer}`]
    const post = lines(...head, 'Content-Type: application/json', `Content-Length: ${body.length}`, '') + body
    const patient = lazy(port, ask('/long') + post)
    const said = patient.read()
    await untilAsked(1)
    // An answer that waits for the service has a longer timeout, even behind one that waited for its client.
    lazy(port, ask('/long'))
    await vi.waitFor(() => expect(asked).toHaveLength(3), 10_000)
    await untilCut(2)
    expect(isCut(0)).toBe(false)
    release()
    await vi.waitFor(() => expect(statuses(said())).toHaveLength(2), 10_000)
    expect(asked).toEqual(['/long', '/agent/progress', '/long'])
    await isUp(url)
  })

  test('is disconnected, longest-waiting first, when all unread answers hold too much memory', async () => {
    const { port, url, asked, isCut, untilCut } = await longWinded({ maxUnreadBytes: 2.5 * LONG })
    const clients: Array<ReturnType<typeof lazy>> = []
    for (let count = 1; count <= 3; count++) {
      clients.push(lazy(port, ask('/long') + ask('/health/live')))
      await vi.waitFor(() => expect(asked).toHaveLength(count), 10_000)
    }
    await untilCut(0)
    // Reading an answer makes room for others.
    const said = clients[1]?.read()
    await vi.waitFor(() => expect(statuses(said?.() ?? '')).toEqual([200, 200]), 10_000)
    lazy(port, ask('/long'))
    await vi.waitFor(() => expect(asked).toEqual(['/long', '/long', '/long', '/health/live', '/long']), 10_000)
    await isUp(url)
    expect([1, 2, 4].map(isCut)).toEqual([false, false, false])
  })

  test('is disconnected for unread parts of a stream as well', async () => {
    const { s, user, pair, port, report, asked, untilCut } = await longWinded({ maxUnreadBytes: 100_000 })
    expect((await report()).status).toBe(201)
    const data = { filling: 'x'.repeat(60_000) }
    await Promise.all(Array.from({ length: 400 }, () => reportDirectly(s, pair.sessionId, data)))
    const headers = ['Host: x', `Authorization: Bearer ${user.bearer}`, 'Accept: text/event-stream', '']
    lazy(port, lines(`GET /sessions/${pair.sessionId}/events HTTP/1.1`, ...headers))
    await vi.waitFor(() => expect(asked).toHaveLength(1), 10_000)
    await untilCut(0)
  })
})
