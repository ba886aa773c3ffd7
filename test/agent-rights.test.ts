import { describe, expect, test } from 'vitest'
import { DEFAULT_SCOPES } from '../src/auth/scopes.ts'
import { openStore } from '../src/store/store.ts'
import { requestToken } from './agent-client.ts'
import { storeBefore } from './older-store.ts'
import { type Pair, refusal, type Scene, scene } from './scene.ts'
import { post } from './support.ts'
import { dispatchOf, mint, refusedFields } from './token-client.ts'

const NOT_OWN = { status: 403, code: 'not_sessions_agent' }
const named = (agent_name: string) => ({ room_config: { agents: [{ agent_name }] } })

/** A user in a session that tutor was dispatched to, and a second agent that was not. */
async function dispatched(env: Record<string, string> = {}) {
  const s = await scene({ env })
  const tutor = await s.newAgent('tutor')
  const coach = await s.newAgent('coach')
  return { s, tutor, coach, ...(await s.present(named('tutor'))) }
}

const calls = (s: Scene, bearer: string, pair: Pair) => ({
  'POST /agent/progress': () => s.progress(bearer, pair),
  'GET /agent/context': () => s.context(bearer, pair),
  'POST /agent/session/end': () => s.end(bearer, pair),
})

async function trailOf({ store }: Scene, agentId: string) {
  const entries = await store.audit.ofAgent(agentId, 100)
  return entries.map(({ route, outcome, count, sessionId }) => [route, outcome, count, sessionId])
}

describe('an agent in a session that another agent was dispatched to', () => {
  test('is refused on every route, with an audit entry, and LiveKit is not asked', async () => {
    const { s, tutor, coach, pair } = await dispatched()
    const routes = calls(s, coach.bearer, pair)
    for (const call of Object.values(routes)) expect(await refusal(call())).toEqual(NOT_OWN)
    expect(s.sfu.asked('GetParticipant')).toBe(0)
    const entries = Object.keys(routes).map((route) => [route, 'not_sessions_agent', 1, pair.sessionId])
    expect((await trailOf(s, 'coach')).sort()).toEqual(entries.sort())
    expect((await s.progress(tutor.bearer, pair)).status).toBe(201)
  })

  test('may act with the scope sessions:any, which its token must have as well', async () => {
    const { s, pair } = await dispatched()
    const everywhere = await s.newAgent('everywhere', ['progress:write', 'sessions:any'])
    expect((await s.progress(everywhere.bearer, pair)).status).toBe(201)
    const form = { grant_type: 'client_credentials', client_id: 'everywhere', client_secret: everywhere.secret }
    const narrow = await requestToken(s.app, { ...form, scope: 'progress:write' })
    const { access_token } = (await narrow.json()) as { access_token: string }
    expect(await refusal(s.progress(access_token, pair))).toEqual(NOT_OWN)
  })

  test('acts once the user’s renewal names it, and the agent before it no longer does', async () => {
    const { s, user, tutor, coach, pair } = await dispatched()
    const once = { 'Idempotency-Key': 'once' }
    expect((await s.progress(tutor.bearer, pair, once)).status).toBe(201)
    await mint(s, user.bearer, { session_id: pair.sessionId, ...named('coach') })
    expect((await s.progress(coach.bearer, pair)).status).toBe(201)
    expect(await refusal(s.progress(tutor.bearer, pair))).toEqual(NOT_OWN)
    expect(await refusal(s.progress(tutor.bearer, pair, once))).toEqual(NOT_OWN)
  })

  test('writes nothing when the renewal falls between the guard and the write', async () => {
    const { s, user, tutor, pair } = await dispatched()
    const write = s.sessions.report
    s.sessions.report = async (...args) => {
      await mint(s, user.bearer, { session_id: pair.sessionId, ...named('coach') })
      return write(...args)
    }
    expect(await refusal(s.progress(tutor.bearer, pair))).toEqual(NOT_OWN)
    expect((await s.eventsOf(user, pair)).map(({ type }) => type)).toEqual(['session.status'])
  })
})

test('a session that names no agent takes callbacks of any agent with the scope of the route', async () => {
  const s = await scene()
  const { bearer } = await s.newAgent('helper', ['progress:write'])
  const { pair } = await s.present()
  expect((await s.progress(bearer, pair)).status).toBe(201)
  expect(await refusal(s.context(bearer, pair))).toEqual({ status: 403, code: 'insufficient_scope' })
})

test('no agent account may join rooms or act in other agents’ sessions unless it is given the scope', async () => {
  const s = await scene()
  expect(DEFAULT_SCOPES).toEqual(['progress:write', 'context:read', 'session:end'])
  expect((await s.accounts.createFirst('dev'))?.scopes).toEqual([...DEFAULT_SCOPES])
})

describe('an account that no client may summon', () => {
  async function unsummoned(env: Record<string, string> = {}) {
    const s = await scene({ env })
    await s.newAgent('tutor', DEFAULT_SCOPES, 'none')
    return { s, user: await s.newUser() }
  }

  test('is answered like one that does not exist, for a new session and for a renewal', async () => {
    const { s, user } = await unsummoned()
    const { session_id } = await mint(s, user.bearer)
    const unknown = { status: 422, code: 'agent_not_registered', fields: ['room_config.agents'] }
    for (const name of ['tutor', 'nobody']) {
      expect(await refusedFields(post(s.app, '/token', named(name), user.bearer))).toEqual(unknown)
      const renewal = post(s.app, '/token', { session_id, ...named(name) }, user.bearer)
      expect(await refusedFields(renewal)).toEqual(unknown)
    }
  })

  test('is dispatched as DEFAULT_AGENT', async () => {
    const { s, user } = await unsummoned({ DEFAULT_AGENT: 'tutor' })
    const { token } = await mint(s, user.bearer)
    expect((await dispatchOf(s, token))?.name).toBe('tutor')
  })

  test('may be summoned from the next request on when the operator says so', async () => {
    const { s, user } = await unsummoned()
    await s.accounts.set('tutor', { summon: 'any' })
    expect((await mint(s, user.bearer, named('tutor'))).session_id).toBeDefined()
    await expect(s.accounts.set('nobody', { summon: 'any' })).rejects.toMatchObject({
      message: 'No agent is named nobody.',
    })
  })
})

test('an account keeps its right to every session when its store is updated, and gets a new token for it', async () => {
  const url = storeBefore('agent_rights_and_quotas', (raw) => {
    const insert = raw.prepare("insert into agents (id, secret_hash, scopes, created_at) values (?, '00', ?, 1)")
    insert.run('tutor', 'progress:write rooms:join')
    insert.run('idle', '')
  })
  const store = await openStore(url)
  const agents = await store.agents.listAgents()
  expect(agents.map(({ id, scopes, summon, generation }) => [id, scopes, summon, generation])).toEqual([
    ['idle', ['sessions:any'], 'any', 2],
    ['tutor', ['progress:write', 'rooms:join', 'sessions:any'], 'any', 2],
  ])
  await store.close()
})

describe('a wrong pair', () => {
  test('is in the agent’s trail: a minute of guesses is one entry, about no session', async () => {
    const { s, tutor, user, pair } = await dispatched()
    for (let i = 0; i < 20; i++) await s.progress(tutor.bearer, { ...pair, sessionId: `sess_${i}` })
    expect(await refusal(s.progress(tutor.bearer, { ...pair, userId: 'user_1' }))).toMatchObject({ status: 403 })
    expect(await trailOf(s, 'tutor')).toEqual([['POST /agent/progress', 'session_mismatch', 21, null]])
    const answer = await s.get(`/sessions/${pair.sessionId}/audit`, user.bearer)
    expect(await answer.json()).toEqual({ entries: [] })
  })

  test('stays there as long as sessions are kept', async () => {
    const { s, tutor, pair } = await dispatched({ EVENT_RETENTION_DAYS: '2' })
    await s.progress(tutor.bearer, { ...pair, sessionId: 'sess_1' })
    s.clock.advance(2 * 24 * 60 * 60 - 60)
    await s.prune()
    expect(await trailOf(s, 'tutor')).toHaveLength(1)
    s.clock.advance(120)
    await s.prune()
    expect(await trailOf(s, 'tutor')).toEqual([])
  })
})

test('a reused Idempotency-Key is in the trail with the session it was refused in', async () => {
  const { s, tutor, pair } = await dispatched()
  const key = { 'Idempotency-Key': 'one' }
  await s.progress(tutor.bearer, pair, key)
  await s.progress(tutor.bearer, pair, key, { another: 'body' })
  expect((await trailOf(s, 'tutor')).sort()).toEqual([
    ['POST /agent/progress', 'allowed', 1, pair.sessionId],
    ['POST /agent/progress', 'idempotency_key_reused', 1, pair.sessionId],
  ])
})
