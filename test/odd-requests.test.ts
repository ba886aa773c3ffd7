import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { serve } from '@hono/node-server'
import { expect, test } from 'vitest'
import { refusal } from './scene.ts'
import { makeApp } from './support.ts'

test('a request line with credentials is not logged as a service error', async () => {
  const { app } = await makeApp()
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' })
  await once(server, 'listening')
  try {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    const head = [
      'POST http://name:word@behalf.example/auth/guest HTTP/1.1',
      'Host: behalf.example',
      'Connection: close',
    ]
    socket.write(`${[...head, 'Transfer-Encoding: chunked'].join('\r\n')}\r\n\r\n0\r\n\r\n`)
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /)
  } finally {
    server.close()
  }
})

test('a client that disconnects within its body is not logged as a service error', async () => {
  const { app } = await makeApp()
  const gone = Object.assign(new Error('aborted'), { code: 'ECONNRESET' })
  const body = new ReadableStream({ start: (controller) => controller.error(gone) })
  const headers = { 'Content-Type': 'application/json' }
  const request = new Request('http://localhost/auth/login', { method: 'POST', headers, body, duplex: 'half' })
  expect(await refusal(app.request(request))).toEqual({ status: 400, code: 'malformed_json' })
})
