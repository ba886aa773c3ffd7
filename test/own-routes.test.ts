import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRoute, z } from '@hono/zod-openapi'
import { HTTPException } from 'hono/http-exception'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Pair } from '../src/agent/agent-route.ts'
import { SCOPES } from '../src/auth/scopes.ts'
import { AppError } from '../src/errors.ts'
import { createRouter } from '../src/http/router.ts'
import { takeViolations } from './documented.ts'
import { refusal, scene } from './scene.ts'
import { makeApp, post } from './support.ts'

const WRONG_TYPE = { 'Content-Type': 'text/plain' }
const INTERNAL = { status: 500, code: 'internal_error' }

/** The app with a custom route that runs this handler; its answers are not in the OpenAPI document. */
async function withOwnRoute(handle: () => Response | Promise<Response>) {
  const t = await makeApp()
  t.app.route('/', createRouter().get('/own/orders', handle))
  const ask = async (method = 'GET') => {
    const answer = await t.app.request('/own/orders', { method })
    takeViolations()
    return answer
  }
  return { ...t, ask, errors: () => t.logged().filter(({ level }) => level >= 50) }
}

const throwing = (error: Error) =>
  withOwnRoute(() => {
    throw error
  })

describe('an HTTPException from a custom route', () => {
  test.each([
    [400, 'Bad Request'],
    [403, 'Forbidden'],
    [404, 'Not Found'],
    [409, 'Conflict'],
    [415, 'Unsupported Media Type'],
    [429, 'Too Many Requests'],
  ] as const)('of %i becomes a problem of that status without a code', async (status, title) => {
    const { ask, errors } = await throwing(new HTTPException(status, { message: 'No such order.' }))
    const answer = await ask()
    expect(answer.status).toBe(status)
    expect(answer.headers.get('Content-Type')).toBe('application/problem+json')
    expect(answer.headers.get('WWW-Authenticate')).toBeNull()
    const requestId = answer.headers.get('X-Request-Id')
    const detail = 'No such order.'
    expect(await answer.json()).toEqual({
      type: 'about:blank',
      title,
      status,
      detail,
      instance: '/own/orders',
      requestId,
    })
    expect(errors()).toEqual([])
  })

  test('without a message has no detail, and a 401 has a challenge', async () => {
    const answer = await (await throwing(new HTTPException(401))).ask()
    expect(answer.status).toBe(401)
    expect(answer.headers.get('WWW-Authenticate')).toBe('Bearer')
    expect(await answer.json()).not.toHaveProperty('detail')
  })

  test('with a response sends that response, with the common headers', async () => {
    const res = Response.json({ code: 'sold_out' }, { headers: { 'X-Stock': '0' } })
    const { ask, errors } = await throwing(new HTTPException(409, { res }))
    const answer = await ask()
    expect(answer.status).toBe(409)
    expect(answer.headers.get('X-Stock')).toBe('0')
    expect(answer.headers.get('X-Request-Id')).toEqual(expect.any(String))
    expect(answer.headers.get('X-Content-Type-Options')).toBe('nosniff')
    expect(await answer.json()).toEqual({ code: 'sold_out' })
    expect(errors()).toEqual([])

    // The same one again, whose body is gone.
    expect(await refusal(ask())).toEqual(INTERNAL)
    expect(errors()).toHaveLength(1)
  })

  test('may redirect', async () => {
    const res = Response.redirect('https://a.example/', 303)
    const answer = await (await throwing(new HTTPException(303, { res }))).ask()
    expect([answer.status, answer.headers.get('Location')]).toEqual([303, 'https://a.example/'])
  })

  test.each([
    ['of 500', new HTTPException(500, { message: 'hidden' })],
    ['of 503 with a response', new HTTPException(503, { res: new Response('hidden') })],
    ['that is no refusal', new HTTPException(200 as 400, { message: 'hidden' })],
  ])('%s is a 500 that reveals nothing', async (_, error) => {
    const { ask, errors } = await throwing(error)
    const answer = await ask()
    expect(await answer.clone().text()).not.toContain('hidden')
    expect(await refusal(answer)).toEqual(INTERNAL)
    expect(errors()).toHaveLength(1)
  })

  test('is handled behind the guard as well', async () => {
    const s = await scene()
    const order = { method: 'post', path: '/agent/orders', scope: 'progress:write', input: Pair } as const
    const placeOrder = s.agentRoute({ ...order, answer: z.object({}), status: 201 }, () => {
      throw new HTTPException(409, { message: 'Sold out.' })
    })
    s.app.openapi(...placeOrder)
    const agent = await s.newAgent()
    const { pair } = await s.present()
    const answer = await post(s.app, '/agent/orders', pair, agent.bearer)
    takeViolations()
    expect(answer.status).toBe(409)
    expect(await answer.json()).toMatchObject({ type: 'about:blank', detail: 'Sold out.' })
  })
})

describe('a handler of a guarded custom route', () => {
  async function answering(handler: () => Response) {
    const s = await scene()
    const order = { method: 'post', path: '/agent/orders', scope: 'progress:write', input: Pair } as const
    s.app.openapi(...s.agentRoute({ ...order, answer: z.object({}), status: 201 }, handler))
    const agent = await s.newAgent()
    const { pair } = await s.present()
    const call = async () => {
      const answer = await post(s.app, '/agent/orders', pair, agent.bearer)
      takeViolations()
      return answer
    }
    return { s, call }
  }

  test('that throws synchronously while the audit write fails affects only its own request', async () => {
    const { s, call } = await answering(() => {
      throw new HTTPException(404, { message: 'No such order.' })
    })
    s.store.audit.record = () => Promise.reject(new AppError('store_unavailable', 'The disk is full.'))
    // An unhandled rejection would fail the test run, as it would end the process.
    expect((await call()).status).toBe(503)
  })

  test.each([
    ['returns nothing', () => undefined as unknown as Response],
    [
      'throws what is no Error',
      () => {
        throw 'sold out'
      },
    ],
  ])('that %s gives a 500 that reveals nothing', async (_, handler) => {
    const { call } = await answering(handler)
    expect(await refusal(call())).toEqual(INTERNAL)
  })
})

describe('a custom scope', () => {
  const env = { AGENT_SCOPES: 'orders:write, orders:read' }
  const order = { method: 'post', path: '/agent/orders', input: Pair, answer: z.object({}), status: 201 } as const

  test('is enforced and published like a built-in one', async () => {
    const s = await scene({ env })
    s.app.openapi(...s.agentRoute({ ...order, scope: 'orders:write' }, () => ({})))
    const { pair } = await s.present()
    const call = async (bearer: string) => {
      const answer = await post(s.app, '/agent/orders', pair, bearer)
      takeViolations()
      return answer
    }
    const waiter = await s.newAgent('waiter', ['orders:write'])
    expect((await call(waiter.bearer)).status).toBe(201)
    expect(await refusal(s.progress(waiter.bearer, pair))).toEqual({ status: 403, code: 'insufficient_scope' })
    const tutor = await s.newAgent('tutor')
    expect(await refusal(call(tutor.bearer))).toEqual({ status: 403, code: 'insufficient_scope' })
    const metadata = await (await s.app.request('/.well-known/oauth-authorization-server')).json()
    expect(metadata).toMatchObject({ scopes_supported: [...SCOPES, 'orders:write', 'orders:read'] })
  })

  test('that the settings do not name prevents the start', async () => {
    const { agentRoute } = await makeApp({ env })
    const declare = () => agentRoute({ ...order, scope: 'orders:delete' }, () => ({}))
    expect(declare).toThrow('/agent/orders requires the scope orders:delete: add it to AGENT_SCOPES.')
  })
})

describe('a custom route', () => {
  test('may pass on an answer of another server, and its request id is still the log’s', async () => {
    const upstream = createServer((_, response) => response.setHeader('X-Request-Id', 'theirs').end('{}'))
    await once(upstream.listen(0, '127.0.0.1'), 'listening')
    onTestFinished(() => void upstream.close())
    const { port } = upstream.address() as AddressInfo
    const { ask } = await withOwnRoute(() => fetch(`http://127.0.0.1:${port}`))
    const answer = await ask()
    expect(answer.status).toBe(200)
    expect(answer.headers.get('X-Request-Id')).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('may answer with a response whose headers are immutable, as those of fetch are', async () => {
    const { ask } = await withOwnRoute(() => Response.redirect('https://shop.example/orders', 302))
    const answer = await ask()
    expect(answer.status).toBe(302)
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      location: 'https://shop.example/orders',
      'x-request-id': expect.any(String),
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
      'access-control-expose-headers': expect.stringContaining('X-Request-Id'),
      vary: 'Origin',
    })
  })

  test('may refuse with a built-in problem code', async () => {
    const { ask } = await throwing(new AppError('session_ended', 'It is over.'))
    expect(await refusal(ask())).toEqual({ status: 409, code: 'session_ended' })
  })

  test('refuses a body that cannot be parsed', async () => {
    const t = await makeApp()
    const Order = z.object({ item: z.string() })
    const route = createRoute({
      method: 'put',
      path: '/own/orders',
      request: { body: { required: true, content: { 'application/json': { schema: Order } } } },
      responses: { 204: { description: 'Placed.' } },
    })
    t.app.route(
      '/',
      createRouter().openapi(route, (c) => c.body(null, 204)),
    )
    const put = async (body: string, headers: Record<string, string>) => {
      const answer = await t.app.request('/own/orders', { method: 'PUT', body, headers })
      takeViolations()
      return answer
    }
    const JSON_TYPE = { 'Content-Type': 'application/json' }
    expect((await put('{"item":"tea"}', JSON_TYPE)).status).toBe(204)
    expect(await refusal(put('{', JSON_TYPE))).toEqual({ status: 400, code: 'malformed_json' })
    expect(await refusal(put('{}', WRONG_TYPE))).toEqual({ status: 415, code: 'unsupported_media_type' })
    expect(await refusal(put('{}', JSON_TYPE))).toEqual({ status: 422, code: 'validation_failed' })
  })
})
