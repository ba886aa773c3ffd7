import { describe, expect, test } from 'vitest'
import { refusal, scene } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { post } from './support.ts'

/** The body of the auth-bridge document's example, byte for byte. */
const EXAMPLE = `{
  "userId": "user_123",
  "sessionId": "sess_456",
  "data": { "status": "done" }
}`

describe('POST /agent/progress', () => {
  test('accepts the example of the auth-bridge document byte for byte', async () => {
    const { store, sessions, clock, app, sfu, newAgent } = await scene()
    const agent = await newAgent()
    const createdAt = clock.now()
    const user = { id: 'user_123', email: null, name: null, passwordHash: null, createdAt }
    await store.users.insertUser(user)
    const session = {
      id: 'sess_456',
      userId: user.id,
      room: 'lesson',
      createdAt,
      agentName: null,
      agentData: null,
      agentDeployment: null,
    }
    await sessions.open({ ...session, signInId: null, tokenExpiresAt: createdAt + 60_000 })
    sfu.enter('lesson', { identity: 'user_123', attributes: { sessionId: 'sess_456' } })

    const answer = await app.request('/agent/progress', {
      method: 'POST',
      headers: { Authorization: `Bearer ${agent.bearer}`, 'Content-Type': 'application/json' },
      body: EXAMPLE,
    })
    expect(answer.status).toBe(201)
    const at = new Date(createdAt).toISOString()
    expect(await answer.json()).toEqual({ sessionId: 'sess_456', seq: 2, createdAt: at })
    expect(await store.events.page('sess_456', 0, 10)).toEqual([
      { seq: 1, type: 'session.status', data: { status: 'live' }, agentId: null, createdAt },
      { seq: 2, type: 'progress', data: { status: 'done' }, agentId: 'tutor', createdAt },
    ])
  })

  test('shows the user the report with the agent’s name and its custom type', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const { user, pair } = await s.present()
    const body = { ...pair, type: 'lesson.step-2_done', data: { nested: [{ score: 1.5 }], text: 'ünïcode \u0000' } }
    expect((await post(s.app, '/agent/progress', body, agent.bearer)).status).toBe(201)
    expect((await s.eventsOf(user, pair)).at(-1)).toEqual({
      seq: 2,
      type: body.type,
      data: body.data,
      agentId: 'tutor',
      createdAt: new Date(s.clock.now()).toISOString(),
    })
  })

  test.each(['session.status', 'session.', 'Progress', '1step', 'a b', '', 'é', 'x'.repeat(65)])(
    'refuses the type %o',
    async (type) => {
      const s = await scene()
      const agent = await s.newAgent()
      const { user, pair } = await s.present()
      const answer = post(s.app, '/agent/progress', { ...pair, type, data: {} }, agent.bearer)
      expect(await refusal(answer)).toEqual({ status: 422, code: 'validation_failed' })
      expect(await s.eventsOf(user, pair)).toEqual([])
    },
  )

  test('numbers concurrent events without gaps or repeats', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const { user, pair } = await s.present()
    const answers = await Promise.all(Array.from({ length: 50 }, () => s.progress(agent.bearer, pair)))
    expect(answers.map(({ status }) => status)).toEqual(Array(50).fill(201))
    const seqs = (await s.eventsOf(user, pair)).map(({ seq }) => seq)
    expect(seqs).toEqual(Array.from({ length: 51 }, (_, i) => i + 1))
  })
})

describe('GET /agent/context', () => {
  test('returns the user, the session, its events and a cursor', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const { user, pair, room } = await s.present()
    await s.progress(agent.bearer, pair)
    const createdAt = new Date(s.clock.now()).toISOString()
    const answer = await s.context(agent.bearer, pair)
    expect(answer.status).toBe(200)
    expect(await answer.json()).toEqual({
      user: { id: user.id, guest: true },
      session: { id: pair.sessionId, userId: user.id, room, status: 'live', createdAt },
      events: [
        { seq: 1, type: 'session.status', data: { status: 'live' }, createdAt },
        { seq: 2, type: 'progress', data: { status: 'done' }, agentId: 'tutor', createdAt },
      ],
      cursor: 2,
    })
  })

  test('answers HEAD without a body', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const { pair } = await s.present()
    const headers = { Authorization: `Bearer ${agent.bearer}` }
    const head = (about: Record<string, string>) =>
      s.app.request(`/agent/context?${new URLSearchParams(about)}`, { method: 'HEAD', headers })
    expect((await head({ ...pair })).status).toBe(200)
    expect((await head({ ...pair, userId: 'another' })).status).toBe(403)
  })

  test('returns a registered user’s name and e-mail address, and nothing secret', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const { user, pair } = await s.present()
    const account = { email: 'ada@example.com', password: 'correct horse', name: 'Ada' }
    expect((await post(s.app, '/auth/register', account, user.bearer)).status).toBe(201)
    const answer: unknown = await (await s.context(agent.bearer, pair)).json()
    expect(answer).toMatchObject({ user: { id: user.id, email: 'ada@example.com', name: 'Ada', guest: false } })
    expect(JSON.stringify(answer)).not.toMatch(/argon2|password|hash/i)
  })

  test('returns the last 100 events, oldest first', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const { pair } = await s.present()
    await Promise.all(Array.from({ length: 120 }, () => s.progress(agent.bearer, pair)))
    const { events, cursor } = (await (await s.context(agent.bearer, pair)).json()) as {
      events: Array<{ seq: number }>
      cursor: number
    }
    expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: 100 }, (_, i) => i + 22))
    expect(cursor).toBe(121)
  })
})

describe('POST /agent/session/end', () => {
  test('ends the session with its reason and removes the user from the room', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const { user, pair, room } = await s.present()
    const answer = await s.end(agent.bearer, pair, { reason: 'lesson over', result: { score: 7 } })
    expect(answer.status).toBe(200)
    expect(await answer.json()).toEqual(await s.sessionOf(user, pair))
    expect(await s.sessionOf(user, pair)).toMatchObject({ status: 'ended', endReason: 'agent' })
    expect((await s.eventsOf(user, pair)).at(-1)).toMatchObject({
      type: 'session.status',
      data: { status: 'ended', reason: 'agent', agentId: 'tutor', detail: 'lesson over', result: { score: 7 } },
    })
    await s.background.idle()
    expect(s.sfu.rooms.has(room)).toBe(false)
    expect(await s.store.sessions.listToRemove()).toEqual([])
  })

  test('removes only its own participant while another session is active in the room', async () => {
    const s = await scene({ env: { ROOM_POLICY: 'open' } })
    const agent = await s.newAgent()
    const first = await s.present({ room: 'shared' })
    const second = await s.present({ room: 'shared' })
    // A second leg of the first one's token: it has to go as well.
    s.sfu.join(first.joinToken, { identity: `${first.user.id}#x`, state: 'JOINED' })
    expect((await s.end(agent.bearer, first.pair)).status).toBe(200)
    await s.background.idle()
    expect([...(s.sfu.rooms.get('shared')?.participants.keys() ?? [])]).toEqual([second.user.id])
    expect((await s.progress(agent.bearer, second.pair)).status).toBe(201)
  })

  test('does not remove an identity that another session of the same user has taken over', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const first = await s.present({ room: 'mine' })
    await s.progress(agent.bearer, first.pair)
    const second = await s.newSession(first.user, { room: 'mine' })
    s.sfu.join(second.joinToken)
    // Within LIVENESS_SECONDS the first one still counts as there.
    expect((await s.end(agent.bearer, first.pair)).status).toBe(200)
    await s.background.idle()
    expect(s.sfu.asked('RemoveParticipant')).toBe(0)
    expect((await s.progress(agent.bearer, second.pair)).status).toBe(201)
  })

  test('does not remove an identity that another session takes over during the removal', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const first = await s.present({ room: 'mine' })
    const second = await s.newSession(first.user, { room: 'mine' })
    await s.context(agent.bearer, first.pair)
    s.sfu.before('GetParticipant', () => s.sfu.join(second.joinToken))
    expect((await s.end(agent.bearer, first.pair)).status).toBe(200)
    await s.background.idle()
    expect(s.sfu.asked('GetParticipant')).toBeGreaterThan(1)
    expect(s.sfu.asked('RemoveParticipant')).toBe(0)
    expect((await s.progress(agent.bearer, second.pair)).status).toBe(201)
  })

  test('answers session_ended the second time', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const { pair } = await s.present()
    const answers = await Promise.all([s.end(agent.bearer, pair), s.end(agent.bearer, pair)])
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409])
    expect(await refusal(s.end(agent.bearer, pair))).toEqual({ status: 409, code: 'session_ended' })
  })

  test('removes a participant who rejoins with an old token after the end (A50)', async () => {
    const s = await scene()
    const agent = await s.newAgent()
    const { pair, room, joinToken } = await s.present()
    await s.end(agent.bearer, pair)
    await s.background.idle()
    const again = s.sfu.join(joinToken)
    expect((await postWebhook(s, webhookEvent('participant_joined', again))).status).toBe(200)
    await s.background.idle()
    expect(s.sfu.rooms.has(room)).toBe(false)
    expect(await refusal(s.progress(agent.bearer, pair))).toEqual({ status: 409, code: 'session_ended' })
  })
})
