import { expect, test } from 'vitest'
import { callingScene, NOT_LIVE, refusal } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'

/** Seconds. */
const BACK = 600

/** LiveKit has just confirmed a user; then the clock is set back, and an agent signs in by the new time. */
async function setBack() {
  const c = await callingScene()
  c.s.clock.advance(BACK + 100)
  expect((await c.report()).status).toBe(201)
  c.s.clock.advance(-BACK)
  const { bearer } = await c.s.newAgent('second')
  return { ...c, report: () => c.s.progress(bearer, c.pair) }
}

test('a confirmation from before the clock was set back counts no more', async () => {
  const { s, leg, report } = await setBack()
  expect((await report()).status).toBe(201)
  s.sfu.leave(leg)
  expect(await refusal(report())).toEqual(NOT_LIVE)
  s.clock.advance(60)
  await s.reconcile()
  expect(await refusal(report())).toEqual(NOT_LIVE)
})

test('nor does an absence: who comes back is believed', async () => {
  const { s, leg, joinToken, report } = await setBack()
  s.sfu.leave(leg)
  await postWebhook(s, webhookEvent('participant_left', leg))
  expect(await refusal(report())).toEqual(NOT_LIVE)
  s.clock.advance(-5)
  s.sfu.join(joinToken)
  expect((await report()).status).toBe(201)
})
