import { expect, test, vi } from 'vitest'
import { directSessions } from './direct-sessions.ts'
import { refusal, scene } from './scene.ts'
import { post } from './support.ts'

const KEY = { 'Idempotency-Key': 'job-1/step-1' }

/** An agent and a user who is in the room. */
async function ready() {
  const s = await scene()
  const agent = await s.newAgent()
  const { user, pair, leg } = await s.present()
  const reported = async () => (await s.eventsOf(user, pair)).filter(({ type }) => type === 'progress')
  return { s, agent, user, pair, leg, reported }
}

test('the same key and body get the same answer and one event (A33)', async () => {
  const { s, agent, pair, reported } = await ready()
  const first = await s.progress(agent.bearer, pair, KEY)
  expect(first.status).toBe(201)
  const answer: unknown = await first.json()
  s.clock.advance(5)
  const second = await s.progress(agent.bearer, pair, KEY)
  expect([second.status, await second.json()]).toEqual([201, answer])
  expect(await reported()).toHaveLength(1)
})

test('ten simultaneous callbacks with one key store one event', async () => {
  const { s, agent, pair, reported } = await ready()
  const answers = await Promise.all(Array.from({ length: 10 }, () => s.progress(agent.bearer, pair, KEY)))
  const bodies = await Promise.all(answers.map(async (answer) => [answer.status, await answer.text()]))
  expect(new Set(bodies.map(String)).size).toBe(1)
  expect(bodies[0]?.[0]).toBe(201)
  expect(await reported()).toHaveLength(1)
})

test('a callback that waited for LiveKit gets the answer stored under its key in the meantime', async () => {
  const { s, agent, pair, leg, reported } = await ready()
  const release = s.sfu.hold()
  const waiting = s.progress(agent.bearer, pair, KEY)
  await vi.waitFor(() => expect(s.sfu.asked('GetParticipant')).toBe(1), 10_000)
  // The reconciler confirms the user in the meantime, so that the second callback needs no liveness check.
  const seen = { kind: 'answer', present: [leg.participant.sid], joining: [] } as const
  await directSessions(s.store).observe({ session: pair.sessionId }, { ...seen, askedAt: s.store.clock.steady() })
  const second = await s.progress(agent.bearer, pair, KEY)
  expect(second.status).toBe(201)
  s.clock.advance(1)
  release()
  const first = await waiting
  expect([first.status, await first.json()]).toEqual([201, await second.json()])
  expect(await reported()).toHaveLength(1)
})

test('without a key every callback stores an event', async () => {
  const { s, agent, pair, reported } = await ready()
  await s.progress(agent.bearer, pair)
  await s.progress(agent.bearer, pair)
  expect(await reported()).toHaveLength(2)
})

test('the same key with another body is refused and stores nothing (A33)', async () => {
  const { s, agent, pair, reported } = await ready()
  await s.progress(agent.bearer, pair, KEY)
  const other = s.progress(agent.bearer, pair, KEY, { status: 'other' })
  expect(await refusal(other)).toEqual({ status: 422, code: 'idempotency_key_reused' })
  expect(await reported()).toHaveLength(1)
})

test('after the end of the session only stored answers are returned', async () => {
  const { s, agent, pair, reported } = await ready()
  const answer: unknown = await (await s.progress(agent.bearer, pair, KEY)).json()
  expect((await s.end(agent.bearer, pair)).status).toBe(200)
  await s.background.idle()
  const asked = s.sfu.asked()
  const replayed = await s.progress(agent.bearer, pair, KEY)
  expect([replayed.status, await replayed.json()]).toEqual([201, answer])
  const other = s.progress(agent.bearer, pair, KEY, { status: 'other' })
  expect(await refusal(other)).toEqual({ status: 422, code: 'idempotency_key_reused' })
  const unused = s.progress(agent.bearer, pair, { 'Idempotency-Key': 'unused' })
  expect(await refusal(unused)).toEqual({ status: 409, code: 'session_ended' })
  expect(await reported()).toHaveLength(1)
  expect(s.sfu.asked(), 'LiveKit is not asked about an ended session').toBe(asked)
})

test('the stored answer is returned while LiveKit is unreachable', async () => {
  const { s, agent, pair } = await ready()
  await s.progress(agent.bearer, pair, KEY)
  s.clock.advance(60)
  s.sfu.mode = 'error500'
  expect((await s.progress(agent.bearer, pair, KEY)).status).toBe(201)
})

test('a refusal is not stored under the key', async () => {
  const { s, agent, pair, leg, reported } = await ready()
  s.sfu.leave(leg)
  expect(await refusal(s.progress(agent.bearer, pair, KEY))).toEqual({ status: 409, code: 'session_not_live' })
  s.sfu.enter(leg.room.name, leg.participant)
  s.clock.advance(1)
  expect((await s.progress(agent.bearer, pair, KEY)).status).toBe(201)
  expect(await reported()).toHaveLength(1)
})

test('keys are separate for each agent and each session', async () => {
  const { s, agent, user, pair, reported } = await ready()
  const quiz = await s.newAgent('quiz')
  const other = await s.newSession(user)
  s.sfu.join(other.joinToken)
  await s.progress(agent.bearer, pair, KEY)
  const byQuiz = await s.progress(quiz.bearer, pair, KEY, { status: 'other' })
  expect(byQuiz.status).toBe(201)
  expect((await reported()).map(({ agentId }) => agentId)).toEqual(['tutor', 'quiz'])
  expect((await s.progress(agent.bearer, other.pair, KEY, { status: 'there' })).status).toBe(201)
})

test('a replay needs the same authorization as the first call', async () => {
  const { s, agent, user, pair } = await ready()
  await s.progress(agent.bearer, pair, KEY)
  const stranger = await s.newUser()
  const mismatched = s.progress(agent.bearer, { ...pair, userId: stranger.id }, KEY)
  expect(await refusal(mismatched)).toEqual({ status: 403, code: 'session_mismatch' })
  expect(await refusal(s.progress(user.bearer, pair, KEY))).toEqual({ status: 401, code: 'invalid_token' })
  await s.accounts.disable('tutor')
  expect(await refusal(s.progress(agent.bearer, pair, KEY))).toEqual({ status: 403, code: 'agent_disabled' })
})

test.each([
  ['empty', ''],
  ['with a space', 'a b'],
  ['of 256 characters', 'k'.repeat(256)],
  ['not ASCII', 'é'],
])('an idempotency key that is %s is refused', async (_, key) => {
  const { s, agent, pair, reported } = await ready()
  const answer = post(s.app, '/agent/progress', { ...pair, data: {} }, agent.bearer, { 'Idempotency-Key': key })
  expect(await refusal(answer)).toEqual({ status: 400, code: 'invalid_idempotency_key' })
  expect(await reported()).toEqual([])
})
