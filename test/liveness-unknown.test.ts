import { describe, expect, test, vi } from 'vitest'
import { callingScene, NOT_LIVE, refusal, UNKNOWN } from './scene.ts'
import { postWebhook, type SfuMode, webhookEvent } from './sfu.ts'

describe('an unknown liveness', () => {
  const MODES: Array<Exclude<SfuMode, 'ok'>> = ['error500', 'hang', 'html404', 'reset']

  test.each(MODES)('is a 503, never live and never absent: %s (A47)', async (mode) => {
    const { s, report, user, pair } = await callingScene()
    s.sfu.mode = mode
    const startedAt = performance.now()
    const answer = await report()
    expect(performance.now() - startedAt).toBeLessThan(3500)
    expect(answer.headers.get('Retry-After')).toBe('2')
    expect(await refusal(answer)).toEqual(UNKNOWN)
    expect(await s.eventsOf(user, pair)).toEqual([])
  })

  test.each(MODES)('changes nothing, and is not remembered: %s', async (mode) => {
    const { s, report, user, pair } = await callingScene()
    await report()
    s.clock.advance(11)
    s.sfu.mode = mode
    expect(await refusal(report())).toEqual(UNKNOWN)
    expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'live' })
    s.sfu.mode = 'ok'
    expect((await report()).status).toBe(201)
    expect(await s.eventsOf(user, pair)).toHaveLength(3)
  })

  test('is the answer of every guarded route while LiveKit is down', async () => {
    const { s, pair, agent, user } = await callingScene()
    s.sfu.mode = 'reset'
    expect(await refusal(s.context(agent.bearer, pair))).toEqual(UNKNOWN)
    expect(await refusal(s.end(agent.bearer, pair))).toEqual(UNKNOWN)
    expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'pending' })
  })
})

describe('a join reported only by a webhook', () => {
  async function joinedByWebhook() {
    const present = await callingScene()
    await postWebhook(present.s, webhookEvent('participant_joined', present.leg))
    return present
  }

  test('shows the session as live, but does not admit a callback', async () => {
    const { s, report, user, pair } = await joinedByWebhook()
    s.sfu.mode = 'error500'
    expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'live' })
    expect(await refusal(report())).toEqual(UNKNOWN)
    s.sfu.mode = 'ok'
    expect((await report()).status).toBe(201)
  })

  test('is checked again while LiveKit does not list it, and then unknown', async () => {
    const { s, report, leg, user, pair, asked } = await joinedByWebhook()
    s.sfu.leave(leg)
    expect(await refusal(report())).toEqual(UNKNOWN)
    expect(asked()).toBe(4)
    expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'live' })
  })

  test('counts as soon as LiveKit lists it', async () => {
    const { s, report, leg, asked } = await joinedByWebhook()
    s.sfu.leave(leg)
    s.sfu.before('GetParticipant', () =>
      s.sfu.before('GetParticipant', () => s.sfu.enter(leg.room.name, leg.participant)),
    )
    expect((await report()).status).toBe(201)
    expect(asked()).toBe(2)
  })

  test('becomes absent as soon as the leave is reported, also during a liveness check', async () => {
    const { s, report, leg, asked } = await joinedByWebhook()
    s.sfu.leave(leg)
    const refused = refusal(report())
    await vi.waitFor(() => expect(asked()).toBe(1), { interval: 5 })
    await postWebhook(s, webhookEvent('participant_left', leg))
    expect(await refused).toEqual(NOT_LIVE)
    expect(asked()).toBeLessThan(4)
  })

  test('becomes absent when LiveKit does not list it after ten seconds', async () => {
    const { s, report, leg, asked } = await joinedByWebhook()
    s.sfu.leave(leg)
    s.clock.advance(10)
    expect(await refusal(report())).toEqual(NOT_LIVE)
    expect(asked()).toBe(1)
  })
})

describe('simultaneous callbacks', () => {
  test('share one liveness check per session', async () => {
    const { s, report, user, agent, asked } = await callingScene()
    const later = await s.newSession(user)
    s.sfu.join(later.joinToken)
    const release = s.sfu.hold()
    const answers = Array.from({ length: 20 }, report)
    // Sent last: when its question has arrived, those of the twenty would have too.
    const last = s.progress(agent.bearer, later.pair)
    await vi.waitFor(() => expect(s.sfu.questions.some(({ room }) => room === later.room)).toBe(true), {
      timeout: 4000,
    })
    release()
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(Array(20).fill(201))
    expect((await last).status).toBe(201)
    expect(asked()).toBe(2)
  })

  test('of too many sessions get an immediate 503, while those within the limit wait', async () => {
    const { s, agent } = await callingScene({ env: { GUESTS_PER_ADDRESS_PER_HOUR: '1000' }, timeoutMs: 60_000 })
    const all = await Promise.all(Array.from({ length: 140 }, () => s.present()))
    const release = s.sfu.hold()
    const statuses: number[] = []
    const answers = all.map(async ({ pair }) => statuses.push((await s.progress(agent.bearer, pair)).status))
    await vi.waitFor(() => expect(statuses).toEqual(Array(12).fill(503)), { timeout: 20_000, interval: 10 })
    release()
    await Promise.all(answers)
    expect(s.sfu.asked('GetParticipant')).toBe(128)
    expect(statuses.slice(12)).toEqual(Array(128).fill(201))
  })

  test('share a failed liveness check as well', async () => {
    const { s, report, leg, asked } = await callingScene()
    s.sfu.leave(leg)
    const answers = await Promise.all(Array.from({ length: 20 }, report))
    for (const answer of answers) expect(await refusal(answer)).toEqual(NOT_LIVE)
    expect(asked()).toBe(1)
  })
})
