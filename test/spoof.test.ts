import { describe, expect, test } from 'vitest'
import { agentClaims } from './forged.ts'
import { ENDED, NOT_LIVE, type Pair, refusal } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { attempt, ROUTES, type Spoof, spoofScene } from './spoof-scene.ts'

const INVALID = { status: 401, code: 'invalid_token' }
const MISSING = { status: 401, code: 'missing_token' }
const MALFORMED = { status: 400, code: 'invalid_request' }
const MISMATCH = { status: 403, code: 'session_mismatch' }

/**
 * Tries the same on every callback route: each gives the same refusal and writes nothing, except the entry in the
 * audit trail of a pair that is real.
 */
async function expectRefused(
  s: Spoof,
  expected: { status: number; code: string },
  what: Parameters<typeof attempt>[2],
) {
  const { audit_entries: trailBefore = [], ...before } = await s.rows()
  for (const route of ROUTES) {
    expect(await refusal(attempt(s, route, what)), route).toEqual(expected)
  }
  await s.background.idle()
  const { audit_entries: trail = [], ...after } = await s.rows()
  expect(after).toEqual(before)
  const isRealPair = expected === NOT_LIVE || expected === ENDED
  const entry = (route: string) => expect.objectContaining({ route, outcome: expected.code, count: 1 })
  const known = new Set(trailBefore.map((one) => JSON.stringify(one)))
  const entries = trail.filter((one) => !known.has(JSON.stringify(one)))
  expect(entries).toHaveLength(isRealPair ? ROUTES.length : 0)
  if (isRealPair) expect(entries).toEqual(expect.arrayContaining(ROUTES.map(entry)))
}

test.each(ROUTES)('control: %s accepts a genuine request, and its change to the rows is detected', async (route) => {
  const s = await spoofScene()
  s.clock.advance(60)
  const before = await s.rows()
  expect((await attempt(s, route, {})).status).toBeLessThan(300)
  expect(await s.rows()).not.toEqual(before)
})

describe('spoofing the agent (A27)', () => {
  test.each<[string, { status: number; code: string }, (s: Spoof) => Promise<string | null> | string | null]>([
    ['no credentials', MISSING, () => null],
    ['a Basic credential', MISSING, (s) => `Basic ${btoa(`${s.agent.id}:${s.agent.secret}`)}`],
    ['a bearer that is empty', MALFORMED, () => 'Bearer '],
    ['two bearers', MALFORMED, (s) => `Bearer ${s.agent.bearer}, Bearer ${s.agent.bearer}`],
    ['a bearer with a space in it', MALFORMED, (s) => `Bearer ${s.agent.bearer} x`],
    ['the user, about its own session', INVALID, (s) => `Bearer ${s.victim.user.bearer}`],
    ['a LiveKit join token', INVALID, (s) => `Bearer ${s.victim.joinToken}`],
    ['a refresh token', INVALID, (s) => `Bearer ${s.victim.user.refreshToken}`],
    ['an agent’s secret', INVALID, (s) => `Bearer ${s.agent.secret}`],
    ['an agent that does not exist', INVALID, async (s) => `Bearer ${await s.signed(agentClaims(s, 'nobody'))}`],
    [
      'an agent’s token from before its new secret',
      INVALID,
      async (s) => {
        await s.accounts.rekey(s.agent.id)
        return `Bearer ${s.agent.bearer}`
      },
    ],
    [
      'an agent for whom its token claims another id',
      INVALID,
      async (s) => `Bearer ${await s.signed({ ...agentClaims(s, s.agent.id), client_id: 'other' })}`,
    ],
    [
      'a disabled agent',
      { status: 403, code: 'agent_disabled' },
      async (s) => {
        await s.accounts.disable(s.agent.id)
        return `Bearer ${s.agent.bearer}`
      },
    ],
    [
      'an agent without the scope',
      { status: 403, code: 'insufficient_scope' },
      async (s) => `Bearer ${(await s.newAgent('narrow', ['rooms:join'])).bearer}`,
    ],
    [
      'an agent whose token was issued for less than its account may',
      { status: 403, code: 'insufficient_scope' },
      async (s) => `Bearer ${await s.signed({ ...agentClaims(s, s.agent.id), scope: 'rooms:join' })}`,
    ],
    [
      'an agent whose token claims more than its account may',
      { status: 403, code: 'insufficient_scope' },
      async (s) => {
        const narrow = await s.newAgent('narrow', ['rooms:join'])
        return `Bearer ${await s.signed(agentClaims(s, narrow.id))}`
      },
    ],
  ])('%s', async (_, expected, authorize) => {
    const s = await spoofScene()
    const authorization = await authorize(s)
    await expectRefused(s, expected, { authorization })
  })

  test('an agent’s token in the query is refused (A28)', async () => {
    const s = await spoofScene()
    await expectRefused(s, MISSING, { authorization: null, query: { access_token: s.agent.bearer } })
  })
})

describe('spoofing the user and the session', () => {
  test.each<[string, { status: number; code: string }, (s: Spoof) => Pair | Promise<Pair>]>([
    ['another user, with a live session', MISMATCH, (s) => ({ ...s.victim.pair, userId: s.other.user.id })],
    ['a live user, with another’s session', MISMATCH, (s) => ({ ...s.other.pair, userId: s.victim.user.id })],
    ['an unknown user', MISMATCH, (s) => ({ ...s.victim.pair, userId: 'user_unknown' })],
    ['an unknown session', MISMATCH, (s) => ({ ...s.victim.pair, sessionId: 'sess_unknown' })],
    ['the agent itself', MISMATCH, (s) => ({ ...s.victim.pair, userId: s.agent.id })],
    ['a user’s id followed by a space', MISMATCH, (s) => ({ ...s.victim.pair, userId: `${s.victim.user.id} ` })],
    ['a user’s id in capitals', MISMATCH, (s) => ({ ...s.victim.pair, userId: s.victim.user.id.toUpperCase() })],
    ['ids with a NUL in them', MISMATCH, (s) => ({ userId: `${s.victim.user.id}\u0000`, sessionId: '\u0000' })],
    ['an SQL wildcard', MISMATCH, () => ({ userId: '%', sessionId: "' or 1=1 --" })],
    ['a pending session', NOT_LIVE, async (s) => (await s.newSession(s.victim.user)).pair],
    [
      'a pending session in the room where its user is with another',
      NOT_LIVE,
      async (s) => (await s.newSession(s.victim.user, { room: s.victim.room })).pair,
    ],
    [
      'a session whose user has left',
      NOT_LIVE,
      async (s) => {
        s.sfu.leave(s.victim.leg)
        await postWebhook(s, webhookEvent('participant_left', s.victim.leg))
        return s.victim.pair
      },
    ],
    [
      'a session that its user ended, though still in the room',
      ENDED,
      async (s) => {
        const headers = { Authorization: `Bearer ${s.victim.user.bearer}` }
        await s.app.request(`/sessions/${s.victim.pair.sessionId}`, { method: 'DELETE', headers })
        await s.background.idle()
        s.sfu.join(s.victim.joinToken)
        return s.victim.pair
      },
    ],
    [
      'a session that an agent ended',
      ENDED,
      async (s) => {
        await s.end(s.agent.bearer, s.victim.pair)
        await s.background.idle()
        return s.victim.pair
      },
    ],
    [
      'another user, with an ended session',
      MISMATCH,
      async (s) => {
        await s.end(s.agent.bearer, s.victim.pair)
        await s.background.idle()
        return { ...s.victim.pair, userId: s.other.user.id }
      },
    ],
  ])('%s', async (_, expected, choose) => {
    const s = await spoofScene()
    await expectRefused(s, expected, { pair: await choose(s) })
  })
})
