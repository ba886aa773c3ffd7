import { describe, expect, test } from 'vitest'
import { SCOPES } from '../src/auth/scopes.ts'
import { commonHeaders } from '../src/http/common-headers.ts'
import { createRouter } from '../src/http/router.ts'
import { demoPage } from '../src/ops/demo.ts'
import { describeApi, operationsOf } from '../src/ops/openapi.ts'
import { basic, requestToken } from './agent-client.ts'
import { callingScene, refusal } from './scene.ts'
import { webhookToken } from './sfu.ts'
import { makeApp, post } from './support.ts'

const INVALID = 422
const JSON_TYPE = 'application/json'

const { app: described } = await makeApp()
const operations = operationsOf(describeApi(described, { publicUrl: 'https://api.behalf.test', version: '1' }))
const paths = [...new Set(operations.map(({ path }) => path))]
const jsonRoutes = operations
  .filter(({ operation: { requestBody } }) => requestBody && 'content' in requestBody && requestBody.content[JSON_TYPE])
  .map(({ method, path }) => `${method.toUpperCase()} ${path}`)

/** A scene, and requests with the bearer that the path takes. */
async function caller() {
  const c = await callingScene({}, SCOPES)
  const bearerOf = (method: string, path: string) =>
    path.startsWith('/agent/') || `${method} ${path}` === 'POST /sessions/{id}/call' ? c.agent.bearer : c.user.bearer
  const request = (method: string, path: string, body: string | ReadableStream | null = null, type = JSON_TYPE) =>
    c.s.app.request(
      new Request(new URL(path.replaceAll('{id}', c.pair.sessionId), 'http://localhost'), {
        method,
        headers: { Authorization: `Bearer ${bearerOf(method, path)}`, 'Content-Type': type },
        body,
        ...(body instanceof ReadableStream ? { duplex: 'half' } : {}),
      }),
    )
  return { ...c, request }
}

describe.each(paths)('%s', (path) => {
  test('answers every other method with 405 and Allow (A35)', async () => {
    const { request } = await caller()
    const own = operations.filter((one) => one.path === path).map(({ method }) => method.toUpperCase())
    const allowed = own.includes('GET') ? [...own, 'HEAD'] : own
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'].filter((one) => !own.includes(one))) {
      const answer = await request(method, path, method === 'GET' ? null : '{}')
      expect(answer.headers.get('Allow')?.split(', ').sort(), method).toEqual([...allowed].sort())
      expect(await refusal(answer), method).toEqual({ status: 405, code: 'method_not_allowed' })
    }
  })
})

test('the OpenAPI document has routes with JSON bodies, so that the next tests are not empty', () => {
  expect(jsonRoutes).toEqual(expect.arrayContaining(['POST /token', 'POST /auth/login', 'POST /agent/session/end']))
  expect(jsonRoutes.length).toBeGreaterThanOrEqual(9)
})

describe.each(jsonRoutes)('%s', (route) => {
  const [method = '', path = ''] = route.split(' ')

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/jsonx',
    'text/json',
    '',
  ])('refuses a body of type %s (A35)', async (type) => {
    const { request } = await caller()
    const answer = await refusal(request(method, path, '{}', type))
    expect(answer).toEqual({ status: 415, code: 'unsupported_media_type' })
  })

  test('refuses a body that is not JSON', async () => {
    const { request } = await caller()
    expect(await refusal(request(method, path, '{'))).toEqual({ status: 400, code: 'malformed_json' })
  })

  test('accepts 64 KiB of body and not a byte more, announced or streamed (A37)', async () => {
    const { request } = await caller()
    const ofSize = (bytes: number) => JSON.stringify({ padding: 'x'.repeat(bytes - '{"padding":""}'.length) })
    const streamed = (text: string) => new Blob([text.slice(0, 100), text.slice(100)]).stream()
    for (const form of [String, streamed]) {
      expect((await request(method, path, form(ofSize(65_536)))).status).not.toBe(413)
      const refused = refusal(request(method, path, form(ofSize(65_537))))
      expect(await refused).toEqual({ status: 413, code: 'body_too_large' })
    }
  })
})

test('POST /agent/token accepts 8 KiB, and /livekit/webhook 1 MiB (A37)', async () => {
  const { s, agent } = await callingScene()
  const form = (bytes: number) => `grant_type=client_credentials&x=`.padEnd(bytes, 'x')
  const credentials = basic(agent.id, agent.secret)
  expect((await requestToken(s.app, form(8192), credentials)).status).toBe(200)
  expect((await requestToken(s.app, form(8193), credentials)).status).toBe(413)

  const webhook = async (bytes: number) => {
    const frame = JSON.stringify({ id: 'EV_long', event: 'room_started', createdAt: 1, padding: '' })
    const body = frame.replace('"padding":""', `"padding":"${'x'.repeat(bytes - frame.length)}"`)
    const Authorization = await webhookToken(body, { ...s.secrets.webhook, at: s.clock.now() })
    return s.app.request('/livekit/webhook', { method: 'POST', headers: { Authorization }, body })
  }
  expect((await webhook(1_048_576)).status).not.toBe(413)
  expect((await webhook(1_048_577)).status).toBe(413)
})

const nested = (levels: number): unknown => (levels === 0 ? 1 : [nested(levels - 1)])
const attributes = (key: number, value: number) => ({
  participant_attributes: { ['k'.repeat(key)]: 'v'.repeat(value) },
})
const agents = (count: number) => ({ room_config: { agents: Array.from({ length: count }, () => ({})) } })
const metadata = (levels: number) => ({ participant_metadata: JSON.stringify({ deep: nested(levels) }) })
const s = (length: number) => 's'.repeat(length)
const account = (email: string, password: string) => ({ email, password })
const mail = (length: number) => `${'a'.repeat(length - '@example.com'.length)}@example.com`

describe('values at the limit are accepted, and one beyond it are invalid (A37)', () => {
  test.each<[what: string, path: string, at: object, beyond: object]>([
    ['an e-mail', '/auth/register', account(mail(254), 'correct horse'), account(mail(255), 'correct horse')],
    ['the shortest password', '/auth/register', account(mail(20), 'c0rrectX'), account(mail(21), 'c0rrect')],
    ['the longest password', '/auth/register', account(mail(20), s(1024)), account(mail(21), s(1025))],
    ['its bytes', '/auth/register', account(mail(20), 'é'.repeat(512)), account(mail(21), `${'é'.repeat(512)}e`)],
    ['a name', '/auth/guest', { name: s(128) }, { name: s(129) }],
    ['a refresh token', '/auth/refresh', { refresh_token: s(512) }, { refresh_token: s(513) }],
    ['a refresh token of a logout', '/auth/logout', { refresh_token: s(512) }, { refresh_token: s(513) }],
    ['a room', '/token', { room: s(128) }, { room: s(129) }],
    ['a room by its other name', '/rooms', { room_name: s(128) }, { room_name: s(129) }],
    ['an identity', '/token', { identity: s(256) }, { identity: s(257) }],
    ['a participant’s name', '/token', { participant_name: s(128) }, { participant_name: s(129) }],
    ['a session', '/token', { session_id: s(128) }, { session_id: s(129) }],
    ['an attribute’s name', '/token', attributes(256, 1), attributes(257, 1)],
    ['metadata and attributes', '/token', attributes(1, 4096 - 8), attributes(1, 4096 - 7)],
    ['the list of agents', '/token', agents(16), agents(17)],
    ['metadata’s depth', '/token', metadata(31), metadata(32)],
    ['a user', '/agent/progress', { userId: s(128) }, { userId: s(129) }],
    ['an event’s type', '/agent/progress', { type: s(64) }, { type: s(65) }],
    ['the depth of data', '/agent/progress', { data: { deep: nested(31) } }, { data: { deep: nested(32) } }],
    ['a reason', '/agent/session/end', { reason: s(256) }, { reason: s(257) }],
    ['the depth of a result', '/agent/session/end', { result: { deep: nested(31) } }, { result: { deep: nested(32) } }],
  ])('%s', async (_, path, at, beyond) => {
    const { s, user, agent, pair } = await callingScene()
    const isAgents = path.startsWith('/agent/')
    const bearer = path.startsWith('/auth/') ? undefined : isAgents ? agent.bearer : user.bearer
    const complete = path === '/agent/progress' ? { ...pair, data: {} } : isAgents ? pair : {}
    const send = (body: object) => post(s.app, path, { ...complete, ...body }, bearer)
    expect((await send(beyond)).status).toBe(INVALID)
    expect((await send(at)).status).not.toBe(INVALID)
  })

  test.each<[what: string, at: string, beyond: string, headers?: [string, string]]>([
    ['a page of sessions', '/sessions?limit=100', '/sessions?limit=101'],
    ['where a page begins', `/sessions?before=${s(128)}`, `/sessions?before=${s(129)}`],
    ['a session’s id', `/sessions/${s(128)}`, `/sessions/${s(129)}`],
    ['a page of events', '/sessions/{id}/events?limit=1000', '/sessions/{id}/events?limit=1001'],
    ['a page of no events', '/sessions/{id}/events?limit=1', '/sessions/{id}/events?limit=0'],
  ])('%s', async (_, at, beyond) => {
    const { request } = await caller()
    expect((await request('GET', beyond)).status).toBe(INVALID)
    expect((await request('GET', at)).status).not.toBe(INVALID)
  })

  test('an idempotency key and a Last-Event-ID', async () => {
    const { s, user, agent, pair } = await callingScene()
    const progress = async (key: string) => (await s.progress(agent.bearer, pair, { 'Idempotency-Key': key })).status
    expect([await progress('k'.repeat(255)), await progress('k'.repeat(256))]).toEqual([201, 400])
    const events = async (id: string) => {
      const headers = { Authorization: `Bearer ${user.bearer}`, 'Last-Event-ID': id }
      return (await s.app.request(`/sessions/${pair.sessionId}/events`, { headers })).status
    }
    expect([await events('9'.repeat(15)), await events('9'.repeat(16))]).toEqual([200, 422])
  })
})

describe('security headers', () => {
  const headersOf = async (env: Record<string, string>, path: string) =>
    (await (await makeApp({ env })).app.request(path)).headers
  const PRODUCTION = {
    NODE_ENV: 'production',
    PUBLIC_URL: 'https://api.example.com',
    LIVEKIT_API_KEY: 'APIkey',
    LIVEKIT_API_SECRET: 'a-livekit-secret-of-32-characters',
  }

  test.each(['/health/live', '/auth/me', '/nothing', '/openapi.json'])('are on %s', async (path) => {
    const headers = await headersOf({}, path)
    expect(Object.fromEntries(headers)).toMatchObject({
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
    })
    expect(headers.has('Strict-Transport-Security')).toBe(false)
    expect(headers.has('X-Powered-By')).toBe(false)
  })

  test('include HSTS in production only', async () => {
    const headers = await headersOf(PRODUCTION, '/health/live')
    expect(headers.get('Strict-Transport-Security')).toBe('max-age=31536000')
  })

  test('keep a page’s own content security policy', async () => {
    expect((await headersOf({}, '/docs')).get('Content-Security-Policy')).toContain("script-src 'self'")
    // Not through the app: this page is not in its document.
    const router = createRouter().use(
      commonHeaders({ production: false, corsOrigins: 'local' }),
      demoPage('wss://livekit.example'),
    )
    const demo = (await router.request('/demo/icon.svg')).headers
    expect(demo.get('Content-Security-Policy')).toContain("script-src 'self'")
    expect(demo.get('Permissions-Policy')).toContain('microphone=(self)')
    expect(demo.get('X-Frame-Options')).toBe('DENY')
  })
})
