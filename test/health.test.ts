import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { Problem } from '../src/http/problem.ts'
import { postWebhook, startSfu, webhookEvent } from './sfu.ts'
import { makeApp, type TestApp } from './support.ts'

const Up = z.object({ status: z.enum(['ok', 'unavailable']) })
const Report = z.strictObject({
  status: z.enum(['ok', 'degraded']),
  version: z.string(),
  store: Up,
  livekit: Up,
  lastWebhookAt: z.iso.datetime().nullable(),
})

async function report({ app }: Pick<TestApp, 'app'>) {
  const answer = await app.request('/health')
  expect(answer.headers.get('Cache-Control')).toBe('no-store')
  return { status: answer.status, body: Report.parse(await answer.json()) }
}

const statusOf = async ({ app }: Pick<TestApp, 'app'>, path: string) => {
  const answer = await app.request(path)
  return [answer.status, await answer.json()]
}

describe('/health', () => {
  test('is 200 while the store and LiveKit work', async () => {
    const t = await makeApp({ sfu: await startSfu() })
    expect(await report(t)).toEqual({
      status: 200,
      body: {
        status: 'ok',
        version: '0.0.0-test',
        store: { status: 'ok' },
        livekit: { status: 'ok' },
        lastWebhookAt: null,
      },
    })
  })

  test.each(['error500', 'html404', 'reset'] as const)('is 503 while LiveKit answers with %s', async (mode) => {
    const sfu = await startSfu()
    const t = await makeApp({ sfu })
    sfu.mode = mode
    expect(await report(t)).toMatchObject({
      status: 503,
      body: { status: 'degraded', store: { status: 'ok' }, livekit: { status: 'unavailable' } },
    })
  })

  test('asks LiveKit at most once in two seconds, whatever the load', async () => {
    const sfu = await startSfu()
    const t = await makeApp({ sfu })
    await Promise.all([report(t), report(t), report(t)])
    sfu.mode = 'error500'
    expect((await report(t)).status).toBe(200)
    expect(sfu.asked()).toBe(1)
    t.clock.advance(2)
    expect((await report(t)).status).toBe(503)
    sfu.mode = 'ok'
    t.clock.advance(2)
    expect((await report(t)).status).toBe(200)
  })

  test('is 503 while LiveKit cannot be reached, and when the store is closed', async () => {
    const t = await makeApp()
    expect((await report(t)).status).toBe(503)
    const closed = await makeApp({ sfu: await startSfu() })
    await closed.store.close()
    expect(await report(closed)).toMatchObject({ status: 503, body: { store: { status: 'unavailable' } } })
  })

  test('shows the time of the newest valid webhook', async () => {
    const t = await makeApp({ sfu: await startSfu() })
    const event = () => webhookEvent('room_started', { room: { sid: 'RM_1', name: 'not ours' } })
    t.clock.advance(60)
    await postWebhook(t, event())
    const at = new Date(t.clock.now()).toISOString()
    expect((await report(t)).body.lastWebhookAt).toBe(at)
    t.clock.advance(60)
    const forged = { ...t, secrets: { ...t.secrets, webhook: { key: 'devkey', secret: 'another' } } }
    expect((await postWebhook(forged, event())).status).toBe(401)
    expect((await report(t)).body.lastWebhookAt).toBe(at)
  })
})

describe('readiness', () => {
  test('begins with the first reconciliation, even without LiveKit, and ends with the store', async () => {
    const t = await makeApp()
    expect(await statusOf(t, '/health/ready')).toEqual([503, { status: 'not_ready' }])
    expect(await t.reconcile()).toBe(false)
    t.health.ready = true
    expect(await statusOf(t, '/health/ready')).toEqual([200, { status: 'ready' }])
    await t.store.close()
    expect(await statusOf(t, '/health/ready')).toEqual([503, { status: 'not_ready' }])
  })

  test('is not liveness: the process answers before it is ready', async () => {
    const t = await makeApp()
    expect(await statusOf(t, '/health/live')).toEqual([200, { status: 'ok' }])
  })
})

describe('an unknown route or method', () => {
  async function problemAt({ app }: TestApp, path: string, method: string, bearer?: string) {
    const headers: Record<string, string> = bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` }
    const answer = await app.request(path, { method, headers })
    expect(answer.headers.get('Content-Type')).toBe('application/problem+json')
    const problem = Problem.parse(await answer.json())
    expect(problem.requestId).toBe(answer.headers.get('X-Request-Id'))
    return { status: answer.status, code: problem.code, allow: answer.headers.get('Allow'), at: problem.instance }
  }

  test('gets a problem+json 404 for an unknown route (A32)', async () => {
    const t = await makeApp()
    const missing = { status: 404, code: 'not_found', allow: null }
    expect(await problemAt(t, '/nothing', 'GET')).toEqual({ ...missing, at: '/nothing' })
    expect(await problemAt(t, '/token/x', 'POST')).toEqual({ ...missing, at: '/token/x' })
  })
})

describe('requests from other origins', () => {
  const PAGE = 'https://app.example.com'
  const allowed = (origins?: string) => makeApp(origins === undefined ? {} : { env: { CORS_ORIGINS: origins } })
  const allowOrigin = async ({ app }: TestApp, origin: string) => {
    const answer = await app.request('/health/live', { headers: { Origin: origin } })
    return answer.headers.get('Access-Control-Allow-Origin')
  }

  test('are allowed for exactly the configured origins', async () => {
    const t = await allowed(`${PAGE},https://other.example.com`)
    expect(await allowOrigin(t, PAGE)).toBe(PAGE)
    for (const foreign of ['https://evil.example.com', `${PAGE}.evil.com`, 'http://app.example.com', 'null']) {
      expect(await allowOrigin(t, foreign)).toBeNull()
    }
    expect(await allowOrigin(t, 'http://localhost:5173')).toBeNull()
  })

  test('are allowed from one level of subdomains where a pattern says so', async () => {
    const t = await allowed('https://*.example.com:8443')
    for (const origin of ['https://pr-12.example.com:8443', 'https://a.example.com:8443']) {
      expect(await allowOrigin(t, origin)).toBe(origin)
    }
    for (const foreign of [
      'https://a.b.example.com:8443',
      'https://example.com:8443',
      'https://.example.com:8443',
      'https://a.example.com',
      'https://evil.com/.example.com:8443',
      'https://a.example.com.evil.com:8443',
    ]) {
      expect(await allowOrigin(t, foreign), foreign).toBeNull()
    }
  })

  test.each([
    ...[
      'http://localhost:5173',
      'http://127.0.0.1:3000',
      'http://[::1]:3000',
      'https://tauri.localhost',
      'http://tauri.localhost',
    ],
    ...[
      'http://192.168.1.20:5173',
      'http://10.0.0.7:3000',
      'http://172.20.1.1:80',
      'http://[fe80::1]:3000',
      'http://mac.local:5173',
    ],
    ...['tauri://localhost', 'capacitor://localhost', 'ionic://localhost'],
  ])('are allowed in development from this machine and its network: %s', async (origin) => {
    expect(await allowOrigin(await allowed(), origin)).toBe(origin)
    expect(await allowOrigin(await allowed('https://app.example.com'), origin)).toBeNull()
  })

  test.each([
    ...[
      PAGE,
      'http://localhost.evil.com',
      'null',
      'chrome-extension://localhost',
      'moz-extension://localhost',
      'file://',
    ],
    ...[
      'http://172.32.0.1',
      'http://11.0.0.1',
      'http://192.168.1.20.evil.com',
      'http://evil.com:80',
      'http://203.0.113.9',
    ],
  ])('are refused in development from elsewhere: %s', async (origin) => {
    expect(await allowOrigin(await allowed(), origin)).toBeNull()
  })

  const REQUEST_HEADERS =
    'authorization,baggage,content-type,idempotency-key,ngrok-skip-browser-warning,sentry-trace,traceparent,x-requested-with'
  const preflight = ({ app }: TestApp, origin: string) =>
    app.request('/token', {
      method: 'OPTIONS',
      headers: {
        Origin: origin,
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': REQUEST_HEADERS,
      },
    })

  test('may send any header, such as those of tracing, but no cookies', async () => {
    const answer = await preflight(await allowed(PAGE), PAGE)
    expect(answer.status).toBe(204)
    expect(answer.headers.get('Access-Control-Allow-Origin')).toBe(PAGE)
    expect(answer.headers.get('Access-Control-Allow-Headers')).toBe(REQUEST_HEADERS)
    // Own routes of a team may have all of them.
    const methods = answer.headers.get('Access-Control-Allow-Methods')?.split(',')
    expect(methods).toEqual(['GET', 'POST', 'PUT', 'PATCH', 'DELETE'])
    expect(answer.headers.get('Access-Control-Allow-Credentials')).toBeNull()
    expect(answer.headers.get('Vary')).toContain('Origin')
  })

  test('fail their preflight when the origin is not allowed', async () => {
    const answer = await preflight(await allowed(PAGE), 'https://evil.example.com')
    expect(answer.headers.get('Access-Control-Allow-Origin')).toBeNull()
  })

  test('can read refusals as well', async () => {
    const { app } = await allowed(PAGE)
    const answer = await app.request('/token', { method: 'POST', headers: { Origin: PAGE } })
    expect(answer.status).toBe(401)
    expect(answer.headers.get('Access-Control-Allow-Origin')).toBe(PAGE)
    expect(answer.headers.get('Access-Control-Expose-Headers')).toContain('WWW-Authenticate')
  })
})
