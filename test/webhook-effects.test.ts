import { describe, expect, test } from 'vitest'
import { joinedScene } from './scene.ts'
import { webhookEvent } from './sfu.ts'
import type { Leg, SfuParticipant } from './sfu-rooms.ts'

const LIVE = { status: 'live' }
const DISCONNECTED = { status: 'disconnected' }

const joins = (leg: Leg) => webhookEvent('participant_joined', leg)
const leaves = (leg: Leg) => webhookEvent('participant_left', leg)

describe('a webhook about a participant', () => {
  test('who joins and leaves makes the session live, then disconnected', async () => {
    const { s, leg, deliver, user, pair } = await joinedScene()
    await deliver(joins(leg))
    const joinedAt = new Date(s.clock.now()).toISOString()
    s.clock.advance(30)
    await deliver(leaves(leg))
    const leftAt = new Date(s.clock.now()).toISOString()
    expect(await s.sessionOf(user, pair)).toMatchObject(DISCONNECTED)
    expect(await s.eventsOf(user, pair)).toEqual([
      { seq: 1, type: 'session.status', data: LIVE, createdAt: joinedAt },
      { seq: 2, type: 'session.status', data: DISCONNECTED, createdAt: leftAt },
    ])
  })

  test('who rejoins with the same token makes the session live again', async () => {
    const { s, leg, joinToken, deliver, statuses } = await joinedScene()
    await deliver(joins(leg))
    await deliver(leaves(leg))
    await deliver(joins(s.sfu.join(joinToken)))
    expect(await statuses()).toEqual([LIVE, DISCONNECTED, LIVE])
  })

  test('who opens a second tab keeps the session live, even if the first tab’s leave arrives last', async () => {
    const { s, leg, joinToken, deliver, statuses, status } = await joinedScene()
    await deliver(joins(leg))
    await deliver(joins(s.sfu.join(joinToken)))
    await deliver(leaves(leg))
    expect(await status()).toBe('live')
    expect(await statuses()).toEqual([LIVE])
  })

  test('whose leave arrives before the join leaves the session disconnected', async () => {
    const { leg, deliver, status, statuses } = await joinedScene()
    await deliver(leaves(leg))
    await deliver(joins(leg))
    expect(await status()).toBe('disconnected')
    expect(await statuses()).toEqual([DISCONNECTED])
  })

  test('whose connection was aborted does not count as a join', async () => {
    const { leg, deliver, status, statuses } = await joinedScene()
    await deliver(webhookEvent('participant_connection_aborted', leg))
    expect(await status()).toBe('pending')
    expect(await statuses()).toEqual([])
  })

  test.each<[string, Partial<SfuParticipant>]>([
    ['is an agent', { kind: 'AGENT' }],
    ['has another session’s attributes', { attributes: { sessionId: 'sess_other' } }],
    ['has no attributes, as in track events', { attributes: {} }],
    ['has another identity', { identity: 'user_other' }],
    ['has no sid', { sid: '' }],
  ])('that %s changes nothing', async (_, given) => {
    const { s, joinToken, deliver, status, statuses } = await joinedScene()
    await deliver(joins(s.sfu.join(joinToken, given)))
    expect(await status()).toBe('pending')
    expect(await statuses()).toEqual([])
  })

  test('in a room other than the session’s changes nothing', async () => {
    const { s, leg, deliver, status } = await joinedScene()
    await deliver(joins(s.sfu.enter('elsewhere', leg.participant)))
    expect(await status()).toBe('pending')
  })

  test('of an ended session does not revive it', async () => {
    const { s, leg, deliver, user, pair, status, statuses } = await joinedScene()
    await deliver(joins(leg))
    const headers = { Authorization: `Bearer ${user.bearer}` }
    await s.app.request(`/sessions/${pair.sessionId}`, { method: 'DELETE', headers })
    await s.background.idle()
    await deliver(leaves(leg))
    await deliver(joins(s.sfu.enter(leg.room.name, { ...leg.participant, sid: 'PA_later' })))
    await s.background.idle()
    expect(await status()).toBe('ended')
    expect(await statuses()).toEqual([LIVE, { status: 'ended', reason: 'user' }])
    expect(s.sfu.rooms.has(leg.room.name)).toBe(false)
  })
})

describe('a webhook event', () => {
  test('that is delivered twice changes nothing the second time', async () => {
    const { s, leg, joinToken, deliver, statuses } = await joinedScene()
    const first = joins(leg)
    await deliver(first)
    await deliver(first)
    await deliver(leaves(leg))
    await deliver(first)
    // The same id with different contents is still the same event.
    await deliver({ ...joins(s.sfu.join(joinToken)), id: first.id })
    expect(await statuses()).toEqual([LIVE, DISCONNECTED])
  })

  test.each([
    'room_started',
    'track_published',
    'track_unpublished',
    'egress_started',
    'agent_job_started',
    'some_day_invented',
    '',
  ])('of the type %o is accepted and ignored', async (type) => {
    const { leg, deliver, status, statuses } = await joinedScene()
    await deliver(joins(leg))
    await deliver(webhookEvent(type, leg, { job: { id: 'AJ_1' }, inventedField: { deep: [1] } }))
    expect(await status()).toBe('live')
    expect(await statuses()).toEqual([LIVE])
  })

  test('is answered without a request to LiveKit', async () => {
    const { s, leg, deliver } = await joinedScene()
    s.sfu.mode = 'hang'
    await deliver(joins(leg))
    await deliver(leaves(leg))
    expect(s.sfu.asked()).toBe(0)
  })

  test('about an unknown room or session is accepted and ignored', async () => {
    const { s, deliver, status } = await joinedScene()
    const foreign = s.sfu.enter('theirs', { identity: 'somebody' })
    await deliver(joins(foreign))
    await deliver(webhookEvent('room_finished', foreign))
    await deliver({ id: 'EV_bare', event: 'participant_joined' })
    expect(await status()).toBe('pending')
  })
})

describe('room_finished', () => {
  test('closes every presence in the room and ends no session', async () => {
    const { leg, deliver, status, statuses } = await joinedScene()
    await deliver(joins(leg))
    await deliver(webhookEvent('room_finished', { room: leg.room }))
    expect(await status()).toBe('disconnected')
    expect(await statuses()).toEqual([LIVE, DISCONNECTED])
  })

  test('also closes a join that is reported later', async () => {
    const { leg, deliver, status } = await joinedScene()
    await deliver(webhookEvent('room_finished', { room: leg.room }))
    await deliver(joins(leg))
    expect(await status()).toBe('disconnected')
  })

  test('does not affect the next room of that name', async () => {
    const { s, leg, joinToken, deliver, status } = await joinedScene()
    await deliver(joins(leg))
    s.sfu.finishRoom(leg.room.name)
    const next = s.sfu.join(joinToken)
    await deliver(joins(next))
    await deliver(webhookEvent('room_finished', { room: leg.room }))
    expect(next.room.sid).not.toBe(leg.room.sid)
    expect(await status()).toBe('live')
  })
})
