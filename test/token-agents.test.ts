import { decodeJwt } from 'jose'
import { describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { scene } from './scene.ts'
import { post } from './support.ts'
import { dispatchOf, joinClaims, mint, refusedFields } from './token-client.ts'

const withAgent = (agent_name?: string, metadata?: string) => ({ room_config: { agents: [{ agent_name, metadata }] } })

async function setUp(env: Record<string, string> = {}) {
  const s = await scene({ env })
  for (const name of ['tutor', 'coach']) await s.accounts.create(name, [])
  return { s, user: await s.newUser() }
}

describe('the agent dispatched by a join token', () => {
  test('is the one that the client names, and gets the user and session in its job', async () => {
    const { s, user } = await setUp()
    const { token, session_id } = await mint(s, user.bearer, withAgent('tutor', 'level 3'))
    const job = { userId: user.id, sessionId: session_id }
    expect(await dispatchOf(s, token)).toEqual({ name: 'tutor', job, metadata: 'level 3' })
  })

  test('may be named in snake_case or camelCase, as protojson allows', async () => {
    const { s, user } = await setUp()
    const { token } = await mint(s, user.bearer, { room_config: { agents: [{ agentName: 'tutor' }] } })
    expect((await dispatchOf(s, token))?.name).toBe('tutor')
  })

  test('cannot be given another user or session: what the client writes is the job’s metadata only', async () => {
    const { s, user } = await setUp()
    const words = JSON.stringify({ userId: 'user_victim', sessionId: 'sess_victim' })
    const { token, session_id } = await mint(s, user.bearer, withAgent('tutor', words))
    const job = { userId: user.id, sessionId: session_id }
    expect(await dispatchOf(s, token)).toEqual({ name: 'tutor', job, metadata: words })
  })

  test('has the client’s words under data with JOB_METADATA=json', async () => {
    const { s, user } = await setUp({ JOB_METADATA: 'json' })
    const words = JSON.stringify({ userId: 'user_victim', sessionId: 'sess_victim' })
    const { token, session_id, room } = await mint(s, user.bearer, withAgent('tutor', words))
    const { metadata = '' } = (await dispatchOf(s, token)) ?? {}
    expect(JSON.parse(metadata)).toEqual({ userId: user.id, sessionId: session_id, room, data: words })
  })

  test('may be of a deployment that the client chooses, in the token and in every later dispatch', async () => {
    const { s, user } = await setUp()
    const request = { room_config: { agents: [{ agent_name: 'tutor', deployment: 'staging' }] } }
    const { token, session_id = '' } = await mint(s, user.bearer, request)
    const agents = z.object({ roomConfig: z.object({ agents: z.array(z.object({ deployment: z.string() })) }) })
    expect(agents.parse(decodeJwt(token)).roomConfig.agents).toEqual([{ deployment: 'staging' }])
    const created = vi.spyOn(s.livekit, 'createDispatch')
    s.sfu.join(token)
    for (let i = 0; i < 2; i++) {
      await s.reconcile()
      await s.background.idle()
      s.clock.advance(20)
    }
    expect(created).toHaveBeenCalledWith(expect.any(String), expect.objectContaining({ deployment: 'staging' }))
    await mint(s, user.bearer, { session_id, room_config: { agents: [{ agent_name: 'tutor' }] } })
    expect((await s.store.sessions.find(session_id))?.agentDeployment).toBeNull()
  })

  test.each(['with space', 'a_b', 'x'.repeat(65), 7])(
    'is of no deployment that LiveKit could not take: %j',
    async (deployment) => {
      const { s, user } = await setUp()
      const request = { room_config: { agents: [{ agent_name: 'tutor', deployment }] } }
      const fields = ['room_config.agents.0.deployment']
      expect(await refusedFields(post(s.app, '/token', request, user.bearer))).toMatchObject({ status: 422, fields })
    },
  )

  test('is absent when none is named and there is no default', async () => {
    const { s, user } = await setUp()
    expect(await dispatchOf(s, (await mint(s, user.bearer)).token)).toBeUndefined()
    // A dispatch without a name would be LiveKit's automatic dispatch, which tokens must not request.
    expect(await dispatchOf(s, (await mint(s, user.bearer, withAgent(undefined, 'hello'))).token)).toBeUndefined()
  })

  test('is kept when a renewal names none, and replaced when it names one', async () => {
    const { s, user } = await setUp({ DEFAULT_AGENT: 'coach' })
    const { session_id, token } = await mint(s, user.bearer, withAgent('tutor', 'level 3'))
    const first = await dispatchOf(s, token)
    const renew = async (request = {}) => dispatchOf(s, (await mint(s, user.bearer, { session_id, ...request })).token)
    expect(await renew()).toEqual(first)
    expect(await renew(withAgent('coach'))).toMatchObject({ name: 'coach', job: { sessionId: session_id } })
    expect((await renew())?.metadata).toBe('')
  })
})

describe('DEFAULT_AGENT', () => {
  test('is dispatched with the client’s metadata when the client names no agent', async () => {
    const { s, user } = await setUp({ DEFAULT_AGENT: 'coach' })
    const silent = await mint(s, user.bearer)
    expect(await dispatchOf(s, silent.token)).toEqual({
      name: 'coach',
      job: { userId: user.id, sessionId: silent.session_id },
      metadata: '',
    })
    const spoken = await mint(s, user.bearer, withAgent(undefined, 'level 3'))
    expect(await dispatchOf(s, spoken.token)).toMatchObject({ name: 'coach', metadata: 'level 3' })
    expect(await dispatchOf(s, (await mint(s, user.bearer, withAgent('tutor'))).token)).toMatchObject({ name: 'tutor' })
  })

  const warnings = ({ logged }: Awaited<ReturnType<typeof setUp>>['s']) =>
    logged().flatMap(({ level, msg }) => (level === 40 ? [msg] : []))

  test('without an account lets users join without an agent, and says so in the log', async () => {
    const { s, user } = await setUp({ DEFAULT_AGENT: 'nobody' })
    expect(await dispatchOf(s, (await mint(s, user.bearer)).token)).toBeUndefined()
    expect(warnings(s)).toEqual([expect.stringMatching(/^DEFAULT_AGENT=nobody names no agent account.*create nobody$/)])
  })

  test('once disabled lets users join without an agent and calls be reloaded, and warns once a minute', async () => {
    const { s, user } = await setUp({ DEFAULT_AGENT: 'coach' })
    const before = await mint(s, user.bearer)
    await s.accounts.disable('coach')
    const after = await mint(s, user.bearer)
    expect(await dispatchOf(s, after.token)).toBeUndefined()
    expect((await mint(s, user.bearer, { session_id: before.session_id })).session_id).toBe(before.session_id)
    const warning = expect.stringMatching(/^DEFAULT_AGENT=coach is disabled, so users join without .*enable coach$/)
    expect(warnings(s)).toEqual([warning])
    s.clock.advance(61)
    await mint(s, user.bearer)
    expect(warnings(s)).toEqual([warning, warning])
    await s.accounts.enable('coach')
    expect((await dispatchOf(s, (await mint(s, user.bearer)).token))?.name).toBe('coach')
  })

  test('once disabled is refused, with the reason, to a client that names it', async () => {
    const { s, user } = await setUp({ DEFAULT_AGENT: 'coach' })
    await s.accounts.disable('coach')
    const problem = await (await post(s.app, '/token', withAgent('coach'), user.bearer)).json()
    expect(problem).toMatchObject({ code: 'agent_not_registered', detail: 'The agent coach is disabled.' })
  })
})

describe('a join token for an agent', () => {
  /** The user is in a room's session that agent_bot was dispatched to; the app has not been told. */
  async function inARoom() {
    const s = await scene()
    const agent = await s.newAgent('agent_bot', ['rooms:join'])
    const present = await s.present({ room: 'lesson', ...withAgent('agent_bot') })
    const refused = (request: unknown, bearer = agent.bearer) => refusedFields(post(s.app, '/token', request, bearer))
    return { s, ...present, agent, refused }
  }
  const unknownRoom = { status: 404, code: 'room_not_found', fields: ['room'] }

  test('is of kind agent, for that room, without a session, and cannot pose as the user', async () => {
    const { s, user, room, agent } = await inARoom()
    const guide = { room, identity: 'agent_bot', name: 'Voice Assistant' }
    const answer = await mint(s, agent.bearer, guide)
    expect(answer).toEqual({
      server_url: s.config.livekitUrl,
      participant_token: answer.token,
      room_name: room,
      participant_identity: 'agent_bot',
      participant_name: 'Voice Assistant',
      expires_at: Math.floor(s.clock.now() / 1000) + 900,
      url: s.config.livekitUrl,
      token: answer.token,
      room,
      identity: 'agent_bot',
    })
    const claims = await joinClaims(s, answer.token)
    expect(claims).toMatchObject({ sub: 'agent_bot', kind: 'agent', name: 'Voice Assistant', exp: answer.expires_at })
    for (const claim of ['metadata', 'attributes', 'roomConfig']) expect(claims).not.toHaveProperty(claim)
    expect(await s.store.sessions.listUnfinished()).toHaveLength(1)
    expect(await s.store.sessions.listByUser(user.id, 10)).toHaveLength(1)
  })

  test('has an identity of its own when it names none, so that two workers can be in one room', async () => {
    const { s, room, agent } = await inARoom()
    const answers = [await mint(s, agent.bearer, { room_name: room }), await mint(s, agent.bearer, { room })]
    for (const { identity, participant_name, token } of answers) {
      expect(identity).toMatch(/^agent_bot#[0-9a-f]{16}$/)
      expect(participant_name).toBe('agent_bot')
      expect((await joinClaims(s, token)).sub).toBe(identity)
      s.sfu.join(token)
    }
    const identities = (await s.livekit.listParticipants(room)).map(({ identity }) => identity)
    expect(identities).toEqual(expect.arrayContaining(answers.map(({ identity }) => identity)))
  })

  test('is refused without a room, with another identity, and for a room without an unfinished session', async () => {
    const { s, user, room, pair, refused } = await inARoom()
    expect(await refused({})).toEqual({ status: 422, code: 'room_required', fields: ['room'] })
    for (const identity of [user.id, 'tutor']) {
      const forbidden = { status: 403, code: 'identity_forbidden', fields: ['identity'] }
      expect(await refused({ room, identity })).toEqual(forbidden)
    }
    expect(await refused({ room: 'never-seen' })).toEqual(unknownRoom)
    await s.sessions.end(pair.sessionId, 'user')
    expect(await refused({ room })).toEqual(unknownRoom)
    await s.background.idle()
  })

  test('is refused while the user is not in the room, as a callback is, with an audit entry', async () => {
    const { s, room, pair, leg, agent, refused } = await inARoom()
    s.sfu.leave(leg)
    expect(await refused({ room })).toEqual({ status: 409, code: 'session_not_live', fields: [] })
    s.sfu.mode = 'reset'
    s.clock.advance(2)
    expect(await refused({ room })).toEqual({ status: 503, code: 'liveness_unknown', fields: [] })
    const entry = { route: 'POST /token', agentId: agent.id, sessionId: pair.sessionId, count: 1 }
    expect(await s.store.audit.ofSession(pair.sessionId, 10)).toEqual(
      expect.arrayContaining(
        ['session_not_live', 'liveness_unknown'].map((outcome) => expect.objectContaining({ ...entry, outcome })),
      ),
    )
  })

  test('is in the user’s audit trail', async () => {
    const { s, room, pair, agent } = await inARoom()
    await mint(s, agent.bearer, { room })
    expect(await s.store.audit.ofSession(pair.sessionId, 10)).toMatchObject([
      { route: 'POST /token', outcome: 'allowed', agentId: 'agent_bot', count: 1 },
    ])
  })

  test('for a room that it was not dispatched to is answered like one for a room that does not exist', async () => {
    const { s, room, refused } = await inARoom()
    const { bearer } = await s.newAgent('stranger', ['rooms:join'])
    const undispatched = await s.present({ room: 'undispatched' })
    for (const name of [room, undispatched.room, 'never-seen']) {
      expect(await refused({ room: name }, bearer)).toEqual(unknownRoom)
    }
    expect(s.sfu.asked('GetParticipant')).toBe(0)
    expect(await s.store.audit.ofAgent('stranger', 10)).toMatchObject([
      { route: 'POST /token', outcome: 'room_not_found', sessionId: null, count: 3 },
    ])
    const everywhere = await s.newAgent('everywhere', ['rooms:join', 'sessions:any'])
    for (const name of [room, undispatched.room]) await mint(s, everywhere.bearer, { room: name })
  })

  test('is for a room where any of its sessions has its user there', async () => {
    const { s, user, room, leg, agent } = await inARoom()
    s.sfu.leave(leg)
    const second = await s.newSession(user, { room, ...withAgent('agent_bot') })
    s.sfu.join(second.joinToken)
    await mint(s, agent.bearer, { room })
    expect(await s.store.audit.ofSession(second.pair.sessionId, 10)).toMatchObject([{ outcome: 'allowed' }])
  })

  test.each([
    ['session_id', { session_id: 'sess_1' }],
    ['auto_create_room', { auto_create_room: true }],
    ['participant_metadata', { participant_metadata: '{"a": 1}' }],
    ['participant_attributes', { participant_attributes: { a: 'b' } }],
    ['room_config.agents', { room_config: { agents: [{ agent_name: 'agent_bot' }] } }],
  ])('refuses %s, which only users may send', async (field, extra) => {
    const { room, refused } = await inARoom()
    const invalid = { status: 422, code: 'validation_failed', fields: [field] }
    expect(await refused({ room, ...extra })).toEqual(invalid)
  })

  test('needs the scope rooms:join and an enabled account (A43)', async () => {
    const { s, room, agent } = await inARoom()
    const other = await s.newAgent('writer', ['progress:write', 'context:read', 'session:end'])
    const refused = await post(s.app, '/token', { room }, other.bearer)
    expect(refused.headers.get('WWW-Authenticate')).toContain('scope="rooms:join"')
    expect(await refusedFields(refused)).toMatchObject({ status: 403, code: 'insufficient_scope' })
    await s.accounts.disable('agent_bot')
    const disabled = await refusedFields(post(s.app, '/token', { room }, agent.bearer))
    expect(disabled).toMatchObject({ status: 403, code: 'agent_disabled' })
  })

  test('works while LiveKit does not answer, as long as its last confirmation counts', async () => {
    const { s, room, agent } = await inARoom()
    expect(await s.reconcile()).toBe(true)
    s.sfu.mode = 'reset'
    s.clock.advance(9)
    expect(await mint(s, agent.bearer, { room })).toMatchObject({ room })
  })
})
