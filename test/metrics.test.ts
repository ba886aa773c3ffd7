import { readFileSync } from 'node:fs'
import { describe, expect, test, vi } from 'vitest'
import { onPostgres } from './database.ts'
import { growth, METRICS_TOKEN, scrape } from './metrics-client.ts'
import { callingScene, joinedScene, NOT_LIVE, refusal, scene, UNKNOWN } from './scene.ts'
import { postWebhook, type SfuMode, signedWebhook, startSfu, webhookEvent, webhookToken } from './sfu.ts'
import { listening, openStream } from './stream-client.ts'
import { makeApp, post } from './support.ts'
import { mint } from './token-client.ts'
import { workerScene } from './worker-scene.ts'

const env = { METRICS_TOKEN }
const ROOM = { sid: 'RM_x', name: 'x' }

describe('GET /metrics', () => {
  test('does not exist by default', async () => {
    const t = await makeApp()
    const answer = t.app.request('/metrics', { headers: { Authorization: `Bearer ${METRICS_TOKEN}` } })
    expect(await refusal(answer)).toEqual({ status: 404, code: 'not_found' })
  })

  test('asks for METRICS_TOKEN where that is set', async () => {
    const t = await makeApp({ env })
    const get = (headers: Record<string, string>) => t.app.request('/metrics', { headers })
    expect(await refusal(get({}))).toEqual({ status: 401, code: 'missing_token' })
    for (const token of ['wrong', METRICS_TOKEN.slice(0, -1), `${METRICS_TOKEN}s`]) {
      const refused = await get({ Authorization: `Bearer ${token}` })
      expect(refused.headers.get('WWW-Authenticate')).toContain('Bearer')
      expect(await refusal(refused)).toEqual({ status: 401, code: 'invalid_token' })
    }
    const answer = await get({ Authorization: `Bearer ${METRICS_TOKEN}` })
    expect(answer.headers.get('Content-Type')).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(await answer.text()).toMatch(/^behalf_event_streams 0$/m)
  })

  test('has Node’s own metrics too', async () => {
    const { text } = await scrape(await makeApp({ env }))
    for (const name of [
      'nodejs_eventloop_lag_seconds',
      'process_resident_memory_bytes',
      'nodejs_gc_duration_seconds',
    ]) {
      expect(text).toContain(`# TYPE ${name} `)
    }
  })

  test('counts nothing of another app in the same process', async () => {
    const one = await makeApp({ env })
    const other = await makeApp({ env })
    await one.app.request('/auth/me')
    expect((await scrape(one)).text).toContain('route="/auth/me"')
    expect((await scrape(other)).text).not.toContain('route="/auth/me"')
  })
})

describe('requests', () => {
  test('are counted and timed by the route’s pattern', async () => {
    const s = await scene({ env })
    const user = await s.newUser()
    const { pair } = await s.newSession(user)
    const grown = await growth(s, 'behalf_http_request', async () => {
      await s.sessionOf(user, pair)
      await s.get('/sessions/sess_unknown', user.bearer)
      await s.app.request('/sessions/sess_other')
    })
    const route = 'method="GET",route="/sessions/:id"'
    expect(grown).toMatchObject({
      [`behalf_http_requests_total{${route},status="200",code=""}`]: 1,
      [`behalf_http_requests_total{${route},status="404",code="session_not_found"}`]: 1,
      [`behalf_http_requests_total{${route},status="401",code="missing_token"}`]: 1,
      [`behalf_http_request_duration_seconds_count{${route}}`]: 3,
      [`behalf_http_request_duration_seconds_bucket{le="+Inf",${route}}`]: 3,
    })
    expect(grown[`behalf_http_request_duration_seconds_sum{${route}}`]).toBeGreaterThan(0)
  })

  test('for odd paths and methods add no more than a few series', async () => {
    const t = await makeApp({ env })
    const odd = async (i: number) => {
      await t.app.request(`/odd/${i}`)
      await t.app.request(`/sessions/${i}/nothing`)
      await t.app.request(`/demo/${i}`)
      await t.app.request(`/agent/progress?x=${i}`, { method: `METHOD${i}` })
      await t.app.request('/token', { method: 'DELETE', headers: { 'X-Request-Id': String(i) } })
      await post(t.app, `/token?${i}`, {}, `token${i}`)
    }
    await odd(0)
    // The first one adds those of /metrics itself.
    await scrape(t)
    const before = (await scrape(t)).series.size
    for (let i = 1; i < 50; i++) await odd(i)
    const { series, value } = await scrape(t)
    expect(series.size - before).toBeLessThan(10)
    const unmatched = 'behalf_http_requests_total{method="GET",route="/*",status="404",code="not_found"}'
    expect(value(unmatched)).toBeGreaterThanOrEqual(50)
    expect([...series.keys()].filter((name) => name.includes('METHOD'))).toEqual([])
    expect([...series.keys()].filter((name) => name.includes('method="other"'))).not.toEqual([])
  })

  test('leave no id, name or room in any label', async () => {
    const { s, agent, pair, room, leg, report } = await callingScene({ env })
    await report()
    await postWebhook(s, webhookEvent('participant_left', leg))
    const { text } = await scrape(s)
    for (const word of [agent.id, pair.userId, pair.sessionId, room, 'RM_', 'PA_']) expect(text).not.toContain(word)
  })
})

describe('the guard', () => {
  test('counts its decisions by outcome', async () => {
    const { s, agent, pair, leg, report } = await callingScene({ env })
    const outcome = (name: string) => `behalf_guard_decisions_total{outcome="${name}"}`
    const grown = await growth(s, 'behalf_guard_decisions_total', async () => {
      for (let i = 0; i < 2; i++) expect((await report()).status).toBe(201)
      expect((await s.progress(agent.bearer, { ...pair, userId: 'user_x' })).status).toBe(403)
      s.clock.advance(20)
      s.sfu.mode = 'error500'
      expect(await refusal(report())).toEqual(UNKNOWN)
      s.sfu.mode = 'ok'
      s.sfu.leave(leg)
      s.clock.advance(20)
      expect(await refusal(report())).toEqual(NOT_LIVE)
    })
    expect(grown).toEqual({
      [outcome('allowed')]: 2,
      [outcome('session_mismatch')]: 1,
      [outcome('liveness_unknown')]: 1,
      [outcome('session_not_live')]: 1,
    })
  })

  test('measures how old LiveKit’s confirmation was', async () => {
    const { s, report } = await callingScene({ env })
    const name = 'behalf_guard_confirmation_age_seconds'
    expect(await growth(s, name, report)).toMatchObject({ [`${name}_count`]: 1, [`${name}_bucket{le="0.01"}`]: 1 })
    s.clock.advance(4)
    expect(await growth(s, name, report)).toMatchObject({ [`${name}_count`]: 1, [`${name}_sum`]: 4 })
  })
})

describe('webhooks', () => {
  const outcome = (name: string) => `behalf_webhooks_total{outcome="${name}"}`

  test('are counted once stored, and again as duplicates', async () => {
    const { s, leg } = await joinedScene({ env })
    const event = webhookEvent('participant_joined', leg)
    const grown = await growth(s, 'behalf_webhooks_total', async () => {
      for (let i = 0; i < 3; i++) expect((await postWebhook(s, event)).status).toBe(200)
    })
    expect(grown).toEqual({ [outcome('stored')]: 1, [outcome('duplicate')]: 2 })
  })

  test('are counted by why they are refused', async () => {
    const s = await scene({ env })
    const signed = await signedWebhook(s, webhookEvent('room_started', { room: ROOM }))
    const send = (body: string, headers: Record<string, string>) =>
      s.app.request('/livekit/webhook', { method: 'POST', body, headers })
    const grown = await growth(s, 'behalf_webhooks_total', async () => {
      await send(signed.body, { Authorization: 'a.b.c' })
      await send(`${signed.body} `, signed.headers)
      await send('{}', { Authorization: await webhookToken('{}', { ...s.secrets.webhook, at: s.clock.now() }) })
      s.clock.advance(3600)
      await send(signed.body, signed.headers)
    })
    expect(grown).toEqual({ [outcome('bad_signature')]: 2, [outcome('bad_body')]: 1, [outcome('bad_time')]: 1 })
  })

  test('are late by the time since LiveKit’s event, and never by less than nothing', async () => {
    const s = await scene({ env })
    const name = 'behalf_webhook_lag_seconds'
    const at = (seconds: number) => ({
      ...webhookEvent('room_started', { room: ROOM }),
      createdAt: String(Math.floor(s.clock.now() / 1000) + seconds),
    })
    const late = await growth(s, name, () => postWebhook(s, at(-40)))
    expect(late).toMatchObject({ [`${name}_count`]: 1, [`${name}_bucket{le="60"}`]: 1 })
    expect(late).not.toHaveProperty([`${name}_bucket{le="30"}`])
    const early = await growth(s, name, () => postWebhook(s, at(20)))
    expect(early).toMatchObject({ [`${name}_bucket{le="1"}`]: 1 })
    expect(early).not.toHaveProperty(`${name}_sum`)
  })
})

describe('LiveKit', () => {
  test('comparisons are timed by outcome, and the sessions that they correct counted', async () => {
    const { s } = await callingScene({ env })
    const pass = (outcome: string) => `behalf_reconciliation_duration_seconds_count{outcome="${outcome}"}`
    const corrections = 'behalf_reconciliation_corrections_total'
    expect(await growth(s, 'behalf_reconciliation', s.reconcile)).toMatchObject({
      [pass('complete')]: 1,
      [corrections]: 1,
    })
    const again = await growth(s, 'behalf_reconciliation', s.reconcile)
    expect(again).toMatchObject({ [pass('complete')]: 1 })
    expect(again).not.toHaveProperty(corrections)
    s.sfu.mode = 'error500'
    expect(await growth(s, 'behalf_reconciliation', s.reconcile)).toMatchObject({ [pass('incomplete')]: 1 })
  })

  test.each<[SfuMode, string]>([
    ['refuse', 'key_refused'],
    ['redirect', 'redirected'],
    ['html404', 'not_livekit'],
    ['error500', 'failed'],
    ['reset', 'unreachable'],
    ['hang', 'timeout'],
  ])('errors are counted by kind: %s', async (mode, kind) => {
    const sfu = await startSfu()
    const t = await makeApp({ sfu, env, timeoutMs: 100 })
    const name = `behalf_livekit_errors_total{kind="${kind}"}`
    expect((await scrape(t)).series.get(name)).toBe(0)
    sfu.mode = mode
    expect(await growth(t, 'behalf_livekit_errors_total', t.reconcile)).toEqual({ [name]: 1 })
  })

  test('requests are timed by method, and its answer tells the clocks apart', async () => {
    const s = await scene({ env })
    const listed = 'behalf_livekit_request_duration_seconds_count{method="RoomService/ListRooms"}'
    expect(await growth(s, listed, s.reconcile)).toEqual({ [listed]: 1 })
    s.sfu.clock = () => s.clock.now() - 90_000
    await s.reconcile()
    const skew = (await scrape(s)).value('behalf_clock_skew_seconds')
    expect(skew).toBeGreaterThan(85)
    expect(skew).toBeLessThanOrEqual(90)
  })
})

describe('what is open now', () => {
  test('sessions are counted by status, as a comparison with LiveKit finds them', async () => {
    const { s, user, leg, report } = await callingScene({ env })
    const counts = async () => {
      await s.reconcile()
      const { series } = await scrape(s)
      return ['pending', 'live', 'disconnected'].map((status) => series.get(`behalf_sessions{status="${status}"}`))
    }
    await s.newSession(user)
    expect(await counts()).toEqual([2, 0, 0])
    await report()
    expect(await counts()).toEqual([1, 1, 0])
    await postWebhook(s, webhookEvent('participant_left', leg))
    expect(await counts()).toEqual([1, 0, 1])
  })

  test('event streams are counted', async () => {
    const { s, user, pair } = await callingScene({ env })
    const url = `${await listening(s.app.fetch)}/sessions/${pair.sessionId}/events`
    const open = async () => (await scrape(s)).value('behalf_event_streams')
    const streams = [await openStream(url, user), await openStream(url, user)]
    expect(await open()).toBe(2)
    for (const stream of streams) stream.stop()
    await vi.waitFor(async () => expect(await open()).toBe(0))
  })

  test('workers are counted', async () => {
    const w = await workerScene({ env })
    const connected = async () => (await scrape(w.s)).value('behalf_workers')
    expect(await connected()).toBe(0)
    const worker = await w.registered()
    expect(await connected()).toBe(1)
    worker.socket.close()
    await vi.waitFor(async () => expect(await connected()).toBe(0))
  })
})

// PostgreSQL groups commits itself.
const onSqlite = onPostgres() ? () => {} : test
onSqlite('writes that share a commit are counted together', async () => {
  const s = await scene({ env })
  const name = 'behalf_store_commit_writes'
  const guests = () => Promise.all(Array.from({ length: 20 }, () => s.newUser()))
  const grown = await growth(s, name, guests)
  // The user and the sign-in of each.
  expect(grown[`${name}_sum`]).toBe(40)
  expect(grown[`${name}_count`]).toBeLessThan(40)
})

onSqlite('a join in a room that was used within the hour writes the session only', async () => {
  const s = await scene({ env })
  const { bearer } = await s.newUser()
  const writes = async () =>
    (await growth(s, 'behalf_store_commit_writes_sum', () => mint(s, bearer, { room: 'lesson' })))
      .behalf_store_commit_writes_sum
  expect(await writes()).toBe(2)
  expect(await writes()).toBe(1)
})

describe('every metric', () => {
  const DOCS = new URL('../docs/', import.meta.url)
  const FILES = ['operations.md', 'monitoring/alerts.yaml', 'monitoring/dashboard.json']
  const mentioned = (file: string) =>
    new Set(
      [...readFileSync(new URL(file, DOCS), 'utf8').matchAll(/\b(?:behalf|nodejs|process)_[a-z0-9_]+/g)].map(String),
    )

  /** As a query names them: a histogram's three series, and its name alone. */
  async function existing() {
    const s = await scene({ env })
    const { text } = await scrape(s)
    const types = [...text.matchAll(/^# TYPE (\S+) (\w+)$/gm)]
    const names = types.flatMap(([, name = '', type]) =>
      type === 'histogram' ? [name, `${name}_bucket`, `${name}_count`, `${name}_sum`] : [name],
    )
    return { names, own: types.map(([, name = '']) => name).filter((name) => name.startsWith('behalf_')) }
  }

  test.each(FILES)('that is named in %s exists', async (file) => {
    const { names } = await existing()
    expect([...mentioned(file)].length).toBeGreaterThan(5)
    expect([...mentioned(file)].filter((name) => !names.includes(name))).toEqual([])
  })

  test('of the service is explained in operations.md and shown in the dashboard', async () => {
    const { own } = await existing()
    expect(own.length).toBeGreaterThan(12)
    expect(own.filter((name) => !mentioned('operations.md').has(name))).toEqual([])
    const shown = [...mentioned('monitoring/dashboard.json')].map((name) => name.replace(/_(bucket|count|sum)$/, ''))
    expect(own.filter((name) => !shown.includes(name))).toEqual([])
  })

  test('has a name that Prometheus’s conventions allow', async () => {
    const { text } = await scrape(await makeApp({ env }))
    for (const [, name = '', type] of text.matchAll(/^# TYPE (behalf_\S+) (\w+)$/gm)) {
      expect(name.endsWith('_total')).toBe(type === 'counter')
      expect(name).not.toMatch(/milli|_ms|_count$|_sum$|_bucket$/)
    }
  })
})
