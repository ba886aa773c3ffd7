import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { createRouter } from '../src/http/router.ts'
import { listen } from '../src/http/server.ts'
import { takeViolations } from './documented.ts'
import { scene } from './scene.ts'

/** The same requests to the app itself, and over HTTP through the service's own server. */
async function bothWays() {
  const s = await scene()
  s.app.route(
    '/',
    createRouter()
      .get('/own/redirect', () => Response.redirect('https://shop.example/orders', 302))
      .get('/own/id', (c) => c.text('one', 200, { 'X-Request-Id': 'theirs' }))
      .get('/own/vary', (c) => c.text('one', 200, { Vary: 'Accept', 'Cache-Control': 'max-age=60' })),
  )
  const server = listen(s.app.fetch, { ...s.config, host: '127.0.0.1', port: 0 })
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    ...s,
    ask: async (path: string, init: RequestInit) => {
      const direct = await s.app.request(path, init)
      const overHttp = await fetch(`http://127.0.0.1:${port}${path}`, { ...init, redirect: 'manual' })
      takeViolations()
      return { direct, overHttp }
    },
  }
}

/** What differs by request, or belongs to the connection. */
const OWN = ['date', 'connection', 'keep-alive', 'content-length', 'transfer-encoding', 'x-request-id', 'retry-after']

function shown({ status, headers }: Response) {
  expect(headers.get('X-Request-Id')).toMatch(/^[0-9a-f-]{36}$/)
  return { status, ...Object.fromEntries([...headers].filter(([name]) => !OWN.includes(name))) }
}

test.each([
  ['GET', '/health/live'],
  ['GET', '/health/live', { Origin: 'http://localhost:5173' }],
  ['GET', '/health/live', { Origin: 'https://elsewhere.example' }],
  ['GET', '/docs'],
  ['GET', '/.well-known/jwks.json'],
  ['GET', '/nothing'],
  ['PUT', '/token'],
  ['POST', '/token', {}, '{}'],
  ['POST', '/auth/guest', { 'Content-Type': 'text/plain' }, 'no'],
  ['POST', '/agent/token', { 'Content-Type': 'application/x-www-form-urlencoded' }, 'grant_type=x'],
  ['HEAD', '/health/live'],
  ['GET', '/own/redirect'],
  ['GET', '/own/vary'],
  ['GET', '/own/id'],
  ['OPTIONS', '/token', { Origin: 'http://localhost:5173', 'Access-Control-Request-Method': 'POST' }],
] as Array<[string, string, Record<string, string>?, string?]>)(
  '%s %s %o has the same headers over HTTP as in the app',
  async (method, path, headers = {}, body) => {
    const { ask } = await bothWays()
    const { direct, overHttp } = await ask(path, { method, headers, ...(body === undefined ? {} : { body }) })
    expect(shown(overHttp)).toEqual(shown(direct))
    expect(shown(direct)).toMatchObject({
      'x-content-type-options': 'nosniff',
      vary: expect.stringContaining('Origin'),
    })
  },
)
