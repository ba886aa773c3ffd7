import { describe, expect, test } from 'vitest'
import { callingScene, NOT_LIVE, refusal, UNKNOWN } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import type { SfuParticipant } from './sfu-rooms.ts'

describe('a confirmation of liveness', () => {
  test('is reused for LIVENESS_SECONDS and no longer', async () => {
    const { s, report, asked } = await callingScene({ env: { LIVENESS_SECONDS: '10' } })
    expect((await report()).status).toBe(201)
    expect(asked()).toBe(1)
    s.clock.advance(10)
    expect((await report()).status).toBe(201)
    expect(asked()).toBe(1)
    s.clock.advance(0.001)
    expect((await report()).status).toBe(201)
    expect(asked()).toBe(2)
    s.clock.advance(10)
    expect((await report()).status).toBe(201)
    expect(asked()).toBe(2)
  })

  test('admits callbacks after an unreported leave for LIVENESS_SECONDS at most (A40)', async () => {
    const { s, report, leg } = await callingScene({ env: { LIVENESS_SECONDS: '3' } })
    await report()
    s.sfu.leave(leg)
    s.clock.advance(3)
    expect((await report()).status).toBe(201)
    s.clock.advance(0.001)
    expect(await refusal(report())).toEqual(NOT_LIVE)
  })

  test('is void as soon as LiveKit reports the leave (A40)', async () => {
    const { s, report, leg } = await callingScene()
    await report()
    s.sfu.leave(leg)
    await postWebhook(s, webhookEvent('participant_left', leg))
    expect(await refusal(report())).toEqual(NOT_LIVE)
  })

  test('counts from the start of the request to LiveKit', async () => {
    const { s, report, asked, untilAsked } = await callingScene({ env: { LIVENESS_SECONDS: '10' } })
    const release = s.sfu.hold()
    const slow = report()
    await untilAsked(1)
    s.clock.advance(1.5)
    release()
    expect((await slow).status).toBe(201)
    s.clock.advance(9)
    await report()
    expect(asked()).toBe(2)
  })

  test('is void when the request took longer than its lifetime, and so is an absence', async () => {
    const { s, report, leg, untilAsked } = await callingScene({ env: { LIVENESS_SECONDS: '1' } })
    const release = s.sfu.hold()
    const slow = report()
    await untilAsked(1)
    s.clock.advance(1.001)
    release()
    expect(await refusal(slow)).toEqual(UNKNOWN)
    expect((await report()).status).toBe(201)
    s.sfu.leave(leg)
    s.clock.advance(1.001)
    expect(await refusal(report())).toEqual(NOT_LIVE)
  })

  test('from the reconciler counts as well', async () => {
    const { s, report, asked } = await callingScene()
    expect(await s.reconcile()).toBe(true)
    expect((await report()).status).toBe(201)
    expect(asked()).toBe(0)
  })

  test('of another session does not count', async () => {
    const { s, report, user, agent, asked } = await callingScene()
    await report()
    const other = await s.newSession(user)
    expect(await refusal(s.progress(agent.bearer, other.pair))).toEqual(NOT_LIVE)
    expect(asked()).toBe(2)
  })
})

describe('an absence', () => {
  test('is a 409 with Retry-After, and is reused for a second', async () => {
    const { s, report, leg, asked } = await callingScene()
    s.sfu.leave(leg)
    const answer = await report()
    expect(answer.headers.get('Retry-After')).toBe('2')
    expect(await refusal(answer)).toEqual(NOT_LIVE)
    s.clock.advance(0.999)
    expect(await refusal(report())).toEqual(NOT_LIVE)
    expect(asked()).toBe(1)
    s.clock.advance(0.001)
    expect(await refusal(report())).toEqual(NOT_LIVE)
    expect(asked()).toBe(2)
  })

  test('observed twice closes the presence, until LiveKit lists it again', async () => {
    const { s, report, leg, user, pair } = await callingScene({ env: { LIVENESS_SECONDS: '1' } })
    await report()
    s.sfu.leave(leg)
    const statuses = []
    for (const _ of [1, 2]) {
      s.clock.advance(2)
      expect(await refusal(report())).toEqual(NOT_LIVE)
      statuses.push((await s.sessionOf(user, pair)).status)
    }
    s.sfu.enter(leg.room.name, leg.participant)
    s.clock.advance(2)
    expect((await report()).status).toBe(201)
    expect(statuses).toEqual(['live', 'disconnected'])
    expect((await s.sessionOf(user, pair)).status).toBe('live')
  })

  test('is not reused once LiveKit reports a join', async () => {
    const { s, report, leg, joinToken } = await callingScene()
    s.sfu.leave(leg)
    expect(await refusal(report())).toEqual(NOT_LIVE)
    await postWebhook(s, webhookEvent('participant_joined', s.sfu.join(joinToken)))
    expect((await report()).status).toBe(201)
  })

  test.each<[string, (present: Awaited<ReturnType<typeof callingScene>>) => Partial<SfuParticipant>]>([
    ['still joining', () => ({ state: 'JOINING' })],
    ['joined, without media yet', () => ({ state: 'JOINED' })],
    ['an agent', () => ({ kind: 'AGENT' })],
    ['of another session', () => ({ attributes: { sessionId: 'sess_other' } })],
    ['of no session', () => ({ attributes: {} })],
    ['a second leg of the token', ({ user }) => ({ identity: `${user.id}#x` })],
    ['somebody else with this session’s attributes', () => ({ identity: 'user_other' })],
  ])('is a participant that is %s', async (_, given) => {
    const present = await callingScene()
    const { s, report, leg, joinToken, user, pair } = present
    s.sfu.leave(leg)
    s.sfu.join(joinToken, given(present))
    expect(await refusal(report())).toEqual(NOT_LIVE)
    expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'pending' })
    expect(await s.eventsOf(user, pair)).toEqual([])
  })

  test('is found for a user in another room', async () => {
    const { s, report, leg } = await callingScene()
    s.sfu.leave(leg)
    s.sfu.enter('elsewhere', leg.participant)
    expect(await refusal(report())).toEqual(NOT_LIVE)
  })

  test('is found for the older of two sessions when the newer one took over the identity', async () => {
    const { s, report, user, room, agent } = await callingScene()
    const newer = await s.newSession(user, { room })
    s.sfu.join(newer.joinToken)
    expect(await refusal(report())).toEqual(NOT_LIVE)
    expect((await s.progress(agent.bearer, newer.pair)).status).toBe(201)
  })
})
