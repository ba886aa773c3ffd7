import { expect, test } from 'vitest'
import { callingScene, ENDED, refusal } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { post } from './support.ts'

const env = { MAX_SESSION_MINUTES: '5' }
const MINUTE = 60

test('the next callback ends a session over its duration limit, and its participant is removed', async () => {
  const { s, user, pair, room, report } = await callingScene({ env })
  expect((await report()).status).toBe(201)
  s.clock.advance(5 * MINUTE - 1)
  expect((await report()).status).toBe(201)
  s.clock.advance(1)
  expect(await refusal(report())).toEqual(ENDED)
  expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'ended', endReason: 'limit' })
  await s.background.idle()
  expect(await s.livekit.listParticipants(room)).toEqual([])
})

test('the reconciler ends a session over its duration limit, also while LiveKit does not answer', async () => {
  const { s, user, pair, report } = await callingScene({ env })
  await report()
  s.clock.advance(5 * MINUTE)
  s.sfu.mode = 'error500'
  expect(await s.reconcile()).toBe(false)
  expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'ended', endReason: 'limit' })
  await s.background.idle()
})

test('a rejoin after the duration limit ends the session', async () => {
  const { s, user, pair, report, leg, joinToken } = await callingScene({ env })
  await report()
  s.sfu.leave(leg)
  await postWebhook(s, webhookEvent('participant_left', leg))
  s.clock.advance(5 * MINUTE)
  const back = s.sfu.join(joinToken)
  await postWebhook(s, webhookEvent('participant_joined', back))
  expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'ended', endReason: 'limit' })
  await s.background.idle()
})

test('no join token is issued for a session over its duration limit', async () => {
  const { s, user, pair, report } = await callingScene({ env })
  await report()
  s.clock.advance(5 * MINUTE)
  const renewal = post(s.app, '/token', { session_id: pair.sessionId }, user.bearer)
  expect(await refusal(renewal)).toEqual(ENDED)
  await s.background.idle()
})

test('the time before the first join does not count towards the duration limit', async () => {
  const { s, report, joinToken, leg, room } = await callingScene({ env })
  s.sfu.leave(leg)
  s.clock.advance(6 * MINUTE)
  s.sfu.join(joinToken)
  expect((await report()).status, room).toBe(201)
})
