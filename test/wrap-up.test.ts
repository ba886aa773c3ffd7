import { expect, test } from 'vitest'
import { callingScene, ENDED, NOT_LIVE, refusal, UNKNOWN } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { type TestClock, testClock } from './support.ts'

const env = { WRAP_UP_SECONDS: '30', RECONNECT_SECONDS: '10' }

/** A call that the user has just hung up, as LiveKit reported. */
async function hungUp(settings: Record<string, string> = env, clock: TestClock = testClock()) {
  const scene = await callingScene({ env: settings, clock })
  await scene.report()
  scene.s.sfu.leave(scene.leg)
  await postWebhook(scene.s, webhookEvent('participant_left', scene.leg))
  return scene
}

test('without a wrap-up window nothing is accepted after the user left', async () => {
  const { s, report, agent, pair } = await hungUp({})
  expect(await refusal(report())).toEqual(NOT_LIVE)
  expect(await refusal(s.end(agent.bearer, pair))).toEqual(NOT_LIVE)
})

test('progress is accepted during the wrap-up window, counted from the leave', async () => {
  const { s, report } = await hungUp({ WRAP_UP_SECONDS: '30' })
  s.clock.advance(29)
  expect((await report()).status).toBe(201)
  s.clock.advance(1)
  expect(await refusal(report())).toEqual(NOT_LIVE)
})

test('the wrap-up window ends early by as much as another instance’s time may be ahead', async () => {
  const { s, report } = await hungUp({ WRAP_UP_SECONDS: '30' }, { ...testClock(), behind: () => 2000 })
  s.clock.advance(27)
  expect((await report()).status).toBe(201)
  s.clock.advance(1)
  expect(await refusal(report())).toEqual(NOT_LIVE)
})

test('a sleep of the machine ends the windows that were open', async () => {
  const { s, report, agent, pair } = await hungUp()
  s.clock.step(-300)
  expect((await report()).status).toBe(201)
  s.clock.step(300)
  expect(await refusal(report())).toEqual(NOT_LIVE)
  expect(await refusal(s.end(agent.bearer, pair))).toEqual(NOT_LIVE)
  const next = await s.present()
  expect((await s.progress(agent.bearer, next.pair)).status).toBe(201)
  s.sfu.leave(next.leg)
  await postWebhook(s, webhookEvent('participant_left', next.leg))
  s.clock.advance(29)
  expect((await s.progress(agent.bearer, next.pair)).status).toBe(201)
})

test('progress is accepted during the wrap-up window even if the absence has ended the session', async () => {
  const { s, report, user, pair } = await hungUp()
  s.clock.advance(11)
  await s.reconcile()
  expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'ended', endReason: 'left' })
  expect((await report()).status).toBe(201)
  s.clock.advance(19)
  expect(await refusal(report())).toEqual(ENDED)
})

test('the agent may end the session during the wrap-up window', async () => {
  const { s, agent, pair } = await hungUp()
  expect((await s.end(agent.bearer, pair, { result: { summary: 'done' } })).status).toBe(200)
  expect(await refusal(s.progress(agent.bearer, pair))).toEqual(ENDED)
  await s.background.idle()
})

test('reading the context is refused during the wrap-up window', async () => {
  const { s, agent, pair } = await hungUp()
  expect(await refusal(s.context(agent.bearer, pair))).toEqual(NOT_LIVE)
})

test('the wrap-up window of an unreported leave starts when LiveKit last listed the user', async () => {
  const { s, report, leg } = await callingScene({ env: { WRAP_UP_SECONDS: '30' } })
  await report()
  s.sfu.leave(leg)
  s.clock.advance(11)
  expect((await report()).status).toBe(201)
  s.clock.advance(18)
  expect((await report()).status).toBe(201)
  s.clock.advance(1)
  expect(await refusal(report())).toEqual(NOT_LIVE)
})

test('no wrap-up window follows another end, a session without a join, or an unknown liveness', async () => {
  const ended = await callingScene({ env })
  await ended.report()
  await ended.s.app.request(`/sessions/${ended.pair.sessionId}`, {
    method: 'DELETE',
    headers: { Authorization: `Bearer ${ended.user.bearer}` },
  })
  expect(await refusal(ended.report())).toEqual(ENDED)
  await ended.s.background.idle()

  const pending = await ended.s.newSession(await ended.s.newUser())
  expect(await refusal(ended.s.progress(ended.agent.bearer, pending.pair))).toEqual(NOT_LIVE)

  const { s, report } = await hungUp()
  s.sfu.mode = 'error500'
  expect(await refusal(report())).toEqual(UNKNOWN)
})
