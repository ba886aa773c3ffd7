import { Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { SERVER_LIMITS } from '../src/http/server.ts'
import { dial, isUp, lines, said, served } from './raw-connections.ts'
import { callingScene } from './scene.ts'
import { makeApp } from './support.ts'

/** The service's own server, with short timeouts. */
const HASTY = {
  ...SERVER_LIMITS,
  headersTimeout: 300,
  requestTimeout: 900,
  keepAliveTimeout: 300,
  connectionsCheckingInterval: 50,
}

/** Keeps writing while the connection is open, so that no idle timeout applies. */
function drip(socket: Socket, bytes: string) {
  const timer = setInterval(() => socket.writable && socket.write(bytes), 40)
  socket.once('close', () => clearInterval(timer))
}

describe('the server cuts off a client', () => {
  test('that sends its header one line after another', async () => {
    const { port, url } = await served(await makeApp(), HASTY)
    const slow = dial(port)
    drip(slow, 'X-More: 1\r\n')
    expect((await said(slow, lines('GET /health/live HTTP/1.1', 'Host: x'))).status).toBe(408)
    await isUp(url)
  })

  test('that sends nothing at all', async () => {
    const { port } = await served(await makeApp(), HASTY)
    expect((await said(dial(port), '')).status).toBe(408)
  })

  test('that sends its body byte by byte (A37)', async () => {
    const { port, url } = await served(await makeApp(), HASTY)
    const slow = dial(port)
    const head = ['POST /auth/login HTTP/1.1', 'Host: x', 'Content-Type: application/json', 'Content-Length: 5000', '']
    slow.write(lines(...head, '{'))
    drip(slow, ' ')
    const { status } = await said(slow, ' ')
    // 400 when the service sees its body break off before Node answers for it.
    expect([400, 408]).toContain(status)
    await isUp(url)
  })

  test('that sends no further request', async () => {
    const { port } = await served(await makeApp(), HASTY)
    const { status, answer } = await said(dial(port), lines('GET /health/live HTTP/1.1', 'Host: x', ''))
    expect(status).toBe(200)
    expect(answer).toMatch(/keep-alive/i)
  })

  test('but not one that reads events, for any length of time', async () => {
    const scene = await callingScene()
    const { s, user, agent, pair } = scene
    const { port, url } = await served(s, HASTY)
    const stream = await fetch(`${url}/sessions/${pair.sessionId}/events`, {
      headers: { Authorization: `Bearer ${user.bearer}`, Accept: 'text/event-stream' },
    })
    const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader()
    if (!reader) throw new Error('no stream')
    // As long as a whole request may take, and the time to find out.
    const slow = dial(port)
    slow.write(lines('POST /auth/login HTTP/1.1', 'Host: x', 'Content-Length: 9', ''))
    await said(slow, '')
    expect((await s.progress(agent.bearer, pair, {}, { after: 'all that time' })).status).toBe(201)
    let seen = ''
    while (!seen.includes('all that time')) {
      const { done, value } = await reader.read()
      expect(done).toBe(false)
      seen += value
    }
    await reader.cancel()
  })
})

describe('on a real connection', () => {
  const authorized = (...values: string[]) =>
    lines('GET /auth/me HTTP/1.1', 'Host: x', 'Connection: close', ...values.map((v) => `Authorization: ${v}`), '')

  test('two Authorization headers are refused, the same token or not (A27)', async () => {
    const { s, user } = await callingScene()
    const { port } = await served(s, HASTY)
    const bearer = `Bearer ${user.bearer}`
    expect((await said(dial(port), authorized(bearer))).status).toBe(200)
    for (const two of [
      [bearer, bearer],
      [bearer, 'Bearer x'],
      ['Bearer x', bearer],
    ]) {
      const { status, answer } = await said(dial(port), authorized(...two))
      expect(status).toBe(400)
      expect(answer).toContain('"invalid_request"')
    }
    for (const two of [
      ['Basic dTpw', bearer],
      [bearer, 'Basic dTpw'],
    ]) {
      expect([400, 401]).toContain((await said(dial(port), authorized(...two))).status)
    }
  })

  test('headers of 16 KiB are refused (A37)', async () => {
    const { port, url } = await served(await makeApp(), HASTY)
    const padded = (bytes: number) =>
      lines('GET /health/live HTTP/1.1', 'Host: x', 'Connection: close', `X: ${'x'.repeat(bytes)}`, '')
    expect((await said(dial(port), padded(15 * 1024))).status).toBe(200)
    expect((await said(dial(port), padded(16 * 1024))).status).toBe(431)
    await isUp(url)
  })

  test('a body with two lengths is refused, and nothing after it is parsed', async () => {
    const { port } = await served(await makeApp(), HASTY)
    const smuggled = lines('GET /health/live HTTP/1.1', 'Host: x', '')
    const head = ['POST /auth/guest HTTP/1.1', 'Host: x', 'Content-Length: 4', 'Transfer-Encoding: chunked', '']
    const { answer } = await said(dial(port), `${lines(...head)}0\r\n\r\n${smuggled}`)
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 400'])
  })

  test('a body over the limit is refused before it is sent', async () => {
    const { port, url } = await served(await makeApp(), HASTY)
    const head = [
      'POST /auth/guest HTTP/1.1',
      'Host: x',
      'Content-Type: application/json',
      'Content-Length: 999999999',
      '',
    ]
    const { status } = await said(dial(port), lines(...head))
    expect(status).toBe(413)
    await isUp(url)
  })

  test('pipelined requests are answered in order, and too many end the connection', async () => {
    const { app, config } = await makeApp()
    const { port, url } = await served({ app, config }, HASTY)
    const request = lines('GET /openapi.json HTTP/1.1', 'Host: x', '')
    const last = lines('GET /health/live HTTP/1.1', 'Host: x', 'Connection: close', '')
    const { answer } = await said(dial(port), request.repeat(SERVER_LIMITS.maxPipelined - 1) + last)
    expect(answer.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(SERVER_LIMITS.maxPipelined)
    let answered = 0
    const inner = app.fetch
    app.fetch = (...args: Parameters<typeof inner>) => {
      answered++
      return inner(...args)
    }
    const flooded = await served({ app, config }, HASTY)
    await said(dial(flooded.port), request.repeat(1000))
    expect(answered).toBeLessThanOrEqual(SERVER_LIMITS.maxPipelined)
    await isUp(url)
  })

  test('connections beyond the limit are closed, and those within it are served', async () => {
    const { port } = await served(await makeApp(), { ...SERVER_LIMITS, maxConnections: 5 })
    const first = dial(port)
    const held = [first, ...Array.from({ length: 4 }, () => dial(port))]
    await Promise.all(held.map((socket) => new Promise((resolve) => socket.once('connect', resolve))))
    expect((await said(dial(port), lines('GET /health/live HTTP/1.1', 'Host: x', ''))).status).toBe(0)
    const close = lines('GET /health/live HTTP/1.1', 'Host: x', 'Connection: close', '')
    expect((await said(first, close)).status).toBe(200)
  })

  describe('connections of one address', () => {
    const health = lines('GET /health/live HTTP/1.1', 'Host: x', 'Connection: close', '')
    const twoEach = (more: Record<string, string> = {}) => makeApp({ env: { CONNECTIONS_PER_ADDRESS: '2', ...more } })
    const held = async (port: number) => {
      const socket = dial(port)
      await new Promise((resolve) => socket.once('connect', resolve))
      return socket
    }

    test('beyond its limit are closed until another one ends', async () => {
      const { port, server } = await served(await twoEach())
      const [first, second] = [await held(port), await held(port)]
      expect((await said(dial(port), health)).status).toBe(0)
      expect((await said(first, health)).status).toBe(200)
      const third = await held(port)
      expect((await said(dial(port), health)).status).toBe(0)
      expect((await said(third, health)).status).toBe(200)
      expect((await said(second, health)).status).toBe(200)
      expect(server.listening).toBe(true)
    })

    test('are not limited for a trusted proxy', async () => {
      const { port } = await served(await twoEach({ TRUSTED_PROXIES: '127.0.0.0/8' }))
      const sockets = [await held(port), await held(port), await held(port)]
      for (const socket of sockets) expect((await said(socket, health)).status).toBe(200)
    })

    test('are counted per /64, and other addresses are unaffected', async () => {
      const { server } = await served(await twoEach())
      const isClosed = (remoteAddress: string) => {
        const socket = Object.defineProperty(new Socket(), 'remoteAddress', { value: remoteAddress })
        server.emit('connection', socket)
        return socket.destroyed
      }
      const addresses = [
        '2001:db8::1',
        '2001:db8::2',
        '2001:db8::3',
        '2001:db8:0:1::1',
        '192.0.2.1',
        '::ffff:192.0.2.1',
      ]
      expect([...addresses, '192.0.2.1'].map(isClosed)).toEqual([false, false, true, false, false, false, true])
    })
  })
})
