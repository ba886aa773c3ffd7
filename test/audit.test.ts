import { z } from '@hono/zod-openapi'
import { HTTPException } from 'hono/http-exception'
import { expect, test } from 'vitest'
import { Pair } from '../src/agent/agent-route.ts'
import { run } from '../src/cli/audit.ts'
import { createRouter } from '../src/http/router.ts'
import { newDatabase } from './database.ts'
import { directSessions } from './direct-sessions.ts'
import { outcomeOf } from './outcome.ts'
import { callingScene, type Scene } from './scene.ts'

async function trailOf(s: Scene, bearer: string, sessionId: string) {
  const answer = await s.get(`/sessions/${sessionId}/audit`, bearer)
  const { entries } = (await answer.json()) as { entries: Array<Record<string, unknown>> }
  return entries.map(({ route, outcome, count, agentId }) => [agentId, route, outcome, count])
}

test('users can read which agent acted on their behalf, on which route, how often, and what was refused', async () => {
  const { s, agent, user, pair, report, leg } = await callingScene()
  await report()
  await report()
  await s.progress(agent.bearer, pair, { 'Idempotency-Key': 'one' })
  await s.progress(agent.bearer, pair, { 'Idempotency-Key': 'one' })
  await s.context(agent.bearer, pair)
  s.sfu.leave(leg)
  s.clock.advance(60)
  await report()
  await s.end(agent.bearer, pair)
  const trail = await trailOf(s, user.bearer, pair.sessionId)
  expect(trail.slice(0, 2).sort()).toEqual([
    ['tutor', 'POST /agent/progress', 'session_not_live', 1],
    ['tutor', 'POST /agent/session/end', 'session_not_live', 1],
  ])
  expect(trail.slice(2).sort()).toEqual([
    ['tutor', 'GET /agent/context', 'allowed', 1],
    ['tutor', 'POST /agent/progress', 'allowed', 3],
    ['tutor', 'POST /agent/progress', 'replayed', 1],
  ])
})

const ORDERS = {
  method: 'post',
  scope: 'progress:write',
  input: Pair,
  answer: z.object({}),
  status: 201,
} as const

test('requests to a custom route with different path parameters share one audit entry', async () => {
  const { s, agent, user, pair } = await callingScene()
  const own = createRouter().openapi(...s.agentRoute({ ...ORDERS, path: '/agent/orders/{id}' }, () => ({})))
  const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${agent.bearer}` }
  for (const id of ['1', '2', '3']) {
    const answer = await own.request(`/agent/orders/${id}`, { method: 'POST', headers, body: JSON.stringify(pair) })
    expect(answer.status).toBe(201)
  }
  expect(await trailOf(s, user.bearer, pair.sessionId)).toEqual([['tutor', 'POST /agent/orders/:id', 'allowed', 3]])
})

test('a refusal by a custom route is audited with its status', async () => {
  const { s, agent, user, pair } = await callingScene()
  const refuse = () => {
    throw new HTTPException(404, { message: 'No such order.' })
  }
  const own = createRouter().openapi(...s.agentRoute({ ...ORDERS, path: '/agent/orders' }, refuse))
  const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${agent.bearer}` }
  expect((await own.request('/agent/orders', { method: 'POST', headers, body: JSON.stringify(pair) })).status).toBe(404)
  expect((await trailOf(s, user.bearer, pair.sessionId)).sort()).toEqual([
    ['tutor', 'POST /agent/orders', '404', 1],
    ['tutor', 'POST /agent/orders', 'allowed', 1],
  ])
})

test('a refusal by the second liveness check before the write is one audit entry', async () => {
  const { s, report, user, pair, leg } = await callingScene()
  await report()
  s.sfu.leave(leg)
  const write = s.sessions.report
  s.sessions.report = (...args) => {
    s.clock.advance(10.001)
    return write(...args)
  }
  expect((await report()).status).toBe(409)
  const outcomes = (await trailOf(s, user.bearer, pair.sessionId)).map(([, , outcome, count]) => [outcome, count])
  expect(outcomes.sort()).toEqual([
    ['allowed', 2],
    ['session_not_live', 1],
  ])
})

test('refusals cannot fill the store: those of one minute share one audit entry', async () => {
  const { s, report, user, pair, leg } = await callingScene()
  s.sfu.leave(leg)
  for (let i = 0; i < 50; i++) await report()
  expect(await trailOf(s, user.bearer, pair.sessionId)).toEqual([
    ['tutor', 'POST /agent/progress', 'session_not_live', 50],
  ])
})

test('a request that the guard allowed and the write refused has both audit entries', async () => {
  const { s, report, user, pair } = await callingScene()
  await report()
  const write = s.sessions.report
  s.sessions.report = async (...args) => {
    await directSessions(s.store).end(pair.sessionId, 'user')
    return write(...args)
  }
  expect((await report()).status).toBe(409)
  const outcomes = (await trailOf(s, user.bearer, pair.sessionId)).map(([, , outcome, count]) => [outcome, count])
  expect(outcomes.sort()).toEqual([
    ['allowed', 2],
    ['session_ended', 1],
  ])
})

test('a user and a session that do not match leave no audit entry', async () => {
  const { s, agent, user, pair } = await callingScene()
  const stranger = await s.newUser()
  await s.progress(agent.bearer, { ...pair, userId: stranger.id })
  expect(await trailOf(s, user.bearer, pair.sessionId)).toEqual([])
})

test('the audit command exits with 2 for invalid arguments', async () => {
  for (const argv of [
    [],
    ['session'],
    ['room', 'x'],
    ['agent', 'x', 'y'],
    ['agent', 'x', '--limit', '0'],
    ['--nope'],
  ]) {
    expect((await outcomeOf(run, argv)).code, argv.join(' ')).toBe(2)
  }
})

test('the audit command prints the trail of an agent and of a session', async () => {
  const databaseUrl = await newDatabase({ lasts: true })
  const { report, pair } = await callingScene({ databaseUrl })
  await report()
  const read = async (...argv: string[]) => {
    const { code, out } = await outcomeOf(run, argv, { DATABASE_URL: databaseUrl })
    expect(code).toBe(0)
    return out.join('\n')
  }
  const entry = { agentId: 'tutor', route: 'POST /agent/progress', outcome: 'allowed', count: 1, ...pair }
  expect(JSON.parse(await read('agent', 'tutor', '--json'))).toEqual([expect.objectContaining(entry)])
  expect(JSON.parse(await read('session', pair.sessionId, '--json'))).toEqual([expect.objectContaining(entry)])
  expect(await read('agent', 'tutor')).toContain('allowed')
  expect(await read('agent', 'nobody')).toBe('No entries.')
})
