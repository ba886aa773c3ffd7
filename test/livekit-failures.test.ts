import { decodeJwt } from 'jose'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { callingScene, NOT_LIVE, refusal, scene, UNKNOWN } from './scene.ts'
import { postWebhook, type SfuMode, signedWebhook, startSfu, webhookEvent, webhookToken } from './sfu.ts'
import { makeApp, post, type TestApp, testClock } from './support.ts'

const Health = z.object({ livekit: z.object({ status: z.string(), kind: z.string(), message: z.string() }) })

const healthOf = async ({ app }: Pick<TestApp, 'app'>) =>
  Health.parse(await (await app.request('/health')).json()).livekit

const warnings = ({ logged }: Pick<TestApp, 'logged'>) => logged().filter(({ level }) => level >= 40)

describe('/health and one warning of the reconciler say why LiveKit cannot be asked:', () => {
  test.each<[SfuMode, string, RegExp]>([
    ['refuse', 'key_refused', /refuses LIVEKIT_API_KEY and LIVEKIT_API_SECRET/],
    ['redirect', 'redirected', /to https: use wss:\/\//],
    ['html404', 'not_livekit', /not LiveKit \(status 404\): check the host, the port and the path/],
    ['html200', 'not_livekit', /not LiveKit \(status 200\)/],
    ['error500', 'failed', /\(500 internal\)/],
    ['reset', 'unreachable', /cannot be reached/],
    ['hang', 'timeout', /did not answer within 2 s/],
  ])('%s', async (mode, kind, message) => {
    const sfu = await startSfu()
    const t = await makeApp({ sfu })
    sfu.mode = mode
    const told = { kind, message: expect.stringMatching(message) }
    expect(await healthOf(t)).toEqual({ status: 'unavailable', ...told })
    expect(await t.reconcile()).toBe(false)
    expect(warnings(t)).toMatchObject([{ livekit: kind, msg: expect.stringMatching(message) }])
  })

  test.each([
    ['with JSON of its own', { status: 200, body: { status: 'ok' } }],
    ['like this service itself', { status: 404, body: { code: 'not_found', detail: 'There is nothing at /twirp.' } }],
  ])('another program answers %s, which proves no absence', async (_, answer) => {
    const { s, user, pair, report } = await callingScene()
    expect((await report()).status).toBe(201)
    s.clock.advance(20)
    s.sfu.alter = () => answer
    expect(await refusal(report())).toEqual(UNKNOWN)
    expect(await healthOf(s)).toMatchObject({ kind: 'not_livekit' })
    for (let i = 0; i < 6; i++) {
      await s.reconcile()
      s.clock.advance(20)
    }
    expect((await s.sessionOf(user, pair)).status).toBe('live')
  })

  test('nothing listens there', async () => {
    const t = await makeApp()
    expect(await healthOf(t)).toMatchObject({ kind: 'unreachable', message: expect.stringContaining('ECONNREFUSED') })
  })

  test.each([
    [90, '90 s ahead of'],
    [-700, '700 s behind'],
  ])('the clock differs by %i s', async (seconds, difference) => {
    const sfu = await startSfu()
    const t = await makeApp({ sfu, clock: testClock(Math.floor(Date.now() / 1000) * 1000) })
    sfu.clock = () => t.clock.now() - seconds * 1000
    sfu.mode = 'refuse'
    const { kind, message } = await healthOf(t)
    expect(kind).toBe('clock_skew')
    // `Date` has whole seconds, which may hide one.
    expect(message.replace('89 s', '90 s')).toContain(`clock is ${difference} LiveKit’s`)
  })
})

describe('what LiveKit writes in an error', () => {
  test('is in no log line: a refused token least of all', async () => {
    const s = await scene()
    const { user, pair, room, leg } = await s.present()
    const agent = await s.newAgent()
    s.sfu.mode = 'refuse'
    await s.reconcile()
    await s.progress(agent.bearer, pair)
    await post(s.app, '/rooms', { room: 'lesson' }, user.bearer)
    await post(s.app, '/token', { room: 'lesson', auto_create_room: true }, user.bearer)
    await s.app.request('/health')
    await s.sessions.end(pair.sessionId, 'user')
    await postWebhook(s, webhookEvent('participant_joined', leg))
    await s.background.idle()
    expect(s.sfu.questions.map(({ method }) => method)).toEqual(
      expect.arrayContaining(['ListRooms', 'GetParticipant', 'ListParticipants']),
    )
    expect(s.logged().some(({ level }) => level >= 40)).toBe(true)
    expect(JSON.stringify(s.logged())).not.toMatch(/eyJ|Bearer|invalid token|go-jose/)
    expect(room).toBeTruthy()
  })
})

describe('names that the service does not know', () => {
  /** Every answer of the fake with these fields in its participants. */
  const altered = (fields: object) => (answer: { status: number; body: unknown }) => {
    const { participants, ...body } = z.looseObject({ participants: z.array(z.object()).optional() }).parse(answer.body)
    if (participants)
      return { ...answer, body: { ...body, participants: participants.map((p) => ({ ...p, ...fields })) } }
    return { ...answer, body: 'identity' in body ? { ...body, ...fields } : body }
  }

  test.each([
    [{ kind: 'HOLOGRAM' }],
    [{ kind: 99 }],
    [{ kind: '0' }],
    [{ state: 'TELEPORTING' }],
    [{ state: 99 }],
    [{ state: null }],
  ])('in an answer prove no presence: %j', async (fields) => {
    const s = await scene()
    const { user, pair } = await s.present()
    const agent = await s.newAgent()
    s.sfu.alter = altered(fields)
    await s.reconcile()
    expect((await s.sessionOf(user, pair)).status).toBe('pending')
    expect(await refusal(s.progress(agent.bearer, pair))).toEqual(NOT_LIVE)
  })

  test.each([
    [{ kind: 'STANDARD', state: 'ACTIVE' }],
    [{ kind: 0, state: 2, invented: { fields: [1] } }],
    [{ kind: null, state: 'ACTIVE' }],
  ])('are not those of protobuf’s JSON: %j', async (fields) => {
    const s = await scene()
    const { user, pair } = await s.present()
    const agent = await s.newAgent()
    s.sfu.alter = altered(fields)
    expect((await s.progress(agent.bearer, pair)).status).toBe(201)
    expect((await s.sessionOf(user, pair)).status).toBe('live')
  })

  test.each([
    ['participant_joined', { kind: 'HOLOGRAM' }, 'pending'],
    ['participant_joined', { kind: 99 }, 'pending'],
    ['participant_joined', { state: 'TELEPORTING' }, 'pending'],
    ['participant_beamed_up', {}, 'pending'],
    ['participant_joined', { invented: { fields: [1] }, permission: { canDance: true } }, 'live'],
  ])('in a webhook prove no presence: %s %j', async (event, fields, status) => {
    const s = await scene()
    const { user, pair, leg } = await s.present()
    const told = webhookEvent(event, leg)
    const participant = { ...(told.participant as object), ...fields }
    expect((await postWebhook(s, { ...told, participant, invented: 1 })).status).toBe(200)
    expect((await s.sessionOf(user, pair)).status).toBe(status)
  })

  test('of a reason to leave do not keep a user in the room', async () => {
    const s = await scene()
    const { user, pair, leg } = await s.present()
    await postWebhook(s, webhookEvent('participant_joined', leg))
    const left = webhookEvent('participant_left', leg)
    const participant = { ...(left.participant as object), disconnectReason: 'swallowed by\u001b[31m a whale' }
    await postWebhook(s, { ...left, participant })
    expect((await s.sessionOf(user, pair)).status).toBe('disconnected')
    const known = await s.store.sessions.load(pair.sessionId)
    expect(known?.facts.presences.map(({ leftReason }) => leftReason)).toEqual(['UNKNOWN'])
  })
})

describe('a clock that differs from LiveKit’s', () => {
  const clockWarnings = (t: Pick<TestApp, 'logged'>) =>
    warnings(t).flatMap(({ msg }) => (String(msg).includes('clock is') ? [String(msg)] : []))

  async function withRoom() {
    // The times in tokens are whole seconds.
    const s = await scene({ clock: testClock(Math.floor(Date.now() / 1000) * 1000) })
    const event = () => webhookEvent('room_started', { room: { sid: 'RM_1', name: 'another' } })
    const told = async (aheadSeconds: number) =>
      (await postWebhook(s, event(), s.clock.now() - aheadSeconds * 1000)).status
    return { s, event, told }
  }

  test('is warned about once in ten minutes, however many webhooks show it', async () => {
    const { s, told } = await withRoom()
    for (let i = 0; i < 5; i++) expect(await told(-20)).toBe(200)
    expect(clockWarnings(s)).toEqual([expect.stringContaining('20 s behind LiveKit’s')])
    s.clock.advance(600)
    expect(await told(-30)).toBe(200)
    expect(clockWarnings(s)).toHaveLength(2)
  })

  test('by no more than the delay of a delivery is none', async () => {
    const { s, told } = await withRoom()
    expect([await told(-4), await told(0), await told(15)]).toEqual([200, 200, 200])
    expect(clockWarnings(s)).toEqual([])
  })

  test('by more than a minute is the reason of a refused webhook, which the log says', async () => {
    const { s, told } = await withRoom()
    expect([await told(-59), await told(-95), await told(420)]).toEqual([200, 401, 401])
    expect(clockWarnings(s)).toEqual([
      expect.stringContaining('59 s behind'),
      expect.stringMatching(/refused webhook.*95 s behind.*\(NTP\)/),
    ])
  })

  test('shows in the date of LiveKit’s answers', async () => {
    const { s } = await withRoom()
    s.sfu.clock = () => s.clock.now() - 12_000
    for (let i = 0; i < 3; i++) await s.reconcile()
    expect(clockWarnings(s)).toEqual([expect.stringMatching(/1[12] s ahead of LiveKit’s/)])
  })

  test('is not why a webhook with a wrong signature is refused', async () => {
    const { s, event } = await withRoom()
    const body = JSON.stringify(event())
    const token = await webhookToken(body, { key: 'devkey', secret: 'wrong', at: s.clock.now() + 95_000 })
    const headers = { Authorization: token }
    expect((await s.app.request('/livekit/webhook', { method: 'POST', body, headers })).status).toBe(401)
    expect(clockWarnings(s)).toEqual([])
  })
})

test('a webhook is accepted for six minutes from its signing, whatever expiry it claims', async () => {
  const s = await scene()
  const event = webhookEvent('room_started', { room: { sid: 'RM_1', name: 'another' } })
  const { body, headers } = await signedWebhook(s, event, s.clock.now(), 10 * 365 * 24 * 60 * 60)
  expect(decodeJwt(headers.Authorization).exp).toBeGreaterThan(s.clock.now() / 1000 + 300_000_000)
  const send = async () => (await s.app.request('/livekit/webhook', { method: 'POST', body, headers })).status
  s.clock.advance(359)
  expect(await send()).toBe(200)
  s.clock.advance(2)
  expect(await send()).toBe(401)
})

test('LIVEKIT_URL may have a path, which requests to LiveKit keep', async () => {
  const sfu = await startSfu({ path: '/media/livekit' })
  const t = await makeApp({ sfu })
  expect((await t.app.request('/health')).status).toBe(200)
  const slash = await makeApp({ sfu: { url: `${sfu.url}/` } })
  expect((await slash.app.request('/health')).status).toBe(200)
})

test('clients get LIVEKIT_PUBLIC_URL, and the service asks LIVEKIT_URL', async () => {
  const s = await scene({ env: { LIVEKIT_PUBLIC_URL: 'wss://livekit.example.com/media' } })
  const user = await s.newUser()
  const answer = await post(s.app, '/token', { room: 'lesson', auto_create_room: true }, user.bearer)
  expect(await answer.json()).toMatchObject({ server_url: 'wss://livekit.example.com/media' })
  expect(s.sfu.rooms.has('lesson')).toBe(true)
})
