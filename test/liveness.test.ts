import { describe, expect, test } from 'vitest'
import { callingScene, NOT_LIVE, refusal, UNKNOWN } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import type { SfuParticipant } from './sfu-rooms.ts'

describe('a confirmation', () => {
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

  test('keeps a user who left silently for LIVENESS_SECONDS at the most (A40)', async () => {
    const { s, report, leg } = await callingScene({ env: { LIVENESS_SECONDS: '3' } })
    await report()
    s.sfu.leave(leg)
    s.clock.advance(3)
    expect((await report()).status).toBe(201)
    s.clock.advance(0.001)
    expect(await refusal(report())).toEqual(NOT_LIVE)
  })

  test('is worth nothing from the moment LiveKit tells of the leaving (A40)', async () => {
    const { s, report, leg } = await callingScene()
    await report()
    s.sfu.leave(leg)
    await postWebhook(s, webhookEvent('participant_left', leg))
    expect(await refusal(report())).toEqual(NOT_LIVE)
  })

  test('counts from the start of the question', async () => {
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

  test('that took longer than it counts is none, and says nothing of an absence either', async () => {
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

  test('of a question that the reconciler asked counts as well', async () => {
    const { s, report, asked } = await callingScene()
    expect(await s.reconcile()).toBe(true)
    expect((await report()).status).toBe(201)
    expect(asked()).toBe(0)
  })

  test('of another session is none', async () => {
    const { s, report, user, agent, asked } = await callingScene()
    await report()
    const other = await s.newSession(user)
    expect(await refusal(s.progress(agent.bearer, other.pair))).toEqual(NOT_LIVE)
    expect(asked()).toBe(2)
  })
})

describe('absent', () => {
  test('is a 409 that says when to ask again, and is reused for a second', async () => {
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

  test('twice closes the presence, and is undone when LiveKit lists it again', async () => {
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

  test('is not reused once LiveKit tells of a join', async () => {
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

  test('is a user in another room', async () => {
    const { s, report, leg } = await callingScene()
    s.sfu.leave(leg)
    s.sfu.enter('elsewhere', leg.participant)
    expect(await refusal(report())).toEqual(NOT_LIVE)
  })

  test('is the older of two sessions whose newer one took over the identity', async () => {
    const { s, report, user, room, agent } = await callingScene()
    const newer = await s.newSession(user, { room })
    s.sfu.join(newer.joinToken)
    expect(await refusal(report())).toEqual(NOT_LIVE)
    expect((await s.progress(agent.bearer, newer.pair)).status).toBe(201)
  })
})
