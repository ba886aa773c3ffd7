import { SipClient } from 'livekit-server-sdk'
import { describe, expect, test } from 'vitest'
import { DEFAULT_SCOPES, type Scope } from '../src/auth/scopes.ts'
import { fieldsOf } from './agent-client.ts'
import { directSessions } from './direct-sessions.ts'
import { ENDED, type Minted, NOT_LIVE, type Pair, refusal, type Scene, scene, UNKNOWN } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import type { Leg, SfuParticipant } from './sfu-rooms.ts'
import { post } from './support.ts'

const TRUNK = 'ST_outbound'
const TO = '+4930123456'
const CALLER: readonly Scope[] = ['calls:place', 'progress:write', 'session:end']
const TUTOR = { room_config: { agents: [{ agent_name: 'tutor' }] } }
const IN_PROGRESS = { status: 409, code: 'call_in_progress' }
const USER_JOINED = { status: 409, code: 'user_joined' }

/** A LiveKit with a trunk, an agent that may call, and a user's session that names this agent. */
async function callScene(env: Record<string, string> = {}, scopes = CALLER) {
  const s = await scene({ env: { SIP_TRUNK_ID: TRUNK, ...env } })
  s.sfu.trunks.add(TRUNK)
  const agent = await s.newAgent('tutor', scopes)
  const user = await s.newUser()
  const session = await s.newSession(user, TUTOR)
  const { pair, room } = session
  const placeCall = (headers: Record<string, string> = {}, body: Record<string, unknown> = {}, bearer = agent.bearer) =>
    post(s.app, `/sessions/${pair.sessionId}/call`, { userId: pair.userId, to: TO, ...body }, bearer, headers)
  return {
    s,
    agent,
    user,
    ...session,
    placeCall,
    /** Places a call; what LiveKit has of it. */
    async call(): Promise<Leg> {
      expect((await placeCall()).status).toBe(201)
      await s.background.idle()
      return legOf(s, room, user.id)
    },
    report: (headers: Record<string, string> = {}) => s.progress(agent.bearer, pair, headers),
    status: async () => (await s.sessionOf(user, pair)).status,
    trail: async () => (await s.store.audit.ofSession(pair.sessionId, 100)).map(({ outcome }) => outcome),
  }
}

function legOf({ sfu }: Scene, room: string, identity: string): Leg {
  const found = sfu.rooms.get(room)
  const participant = found?.participants.get(identity)
  if (!found || !participant) throw new Error(`${identity} is not in ${room}`)
  return { room: { sid: found.sid, name: room }, participant }
}

const pickUp = ({ participant }: Leg) => {
  participant.attributes['sip.callStatus'] = 'active'
}

/** What a caller from outside can make of themselves: everything but the sid, even the user's identity. */
const forgedBy = ({ userId, sessionId }: Pair, given: Partial<SfuParticipant> = {}) => ({
  identity: userId,
  kind: 'SIP' as const,
  attributes: { sessionId, userId, 'sip.callStatus': 'active' },
  ...given,
})

async function deliver(s: Scene, event: string, leg: Leg) {
  expect((await postWebhook(s, webhookEvent(event, leg))).status).toBe(200)
  await s.background.idle()
}

async function reconcileAfter({ clock, reconcile, background }: Scene, seconds: number) {
  clock.advance(seconds)
  expect(await reconcile()).toBe(true)
  await background.idle()
}

/** LiveKit acts on the next request of that method as usual, and answers with this. */
function answerOnce({ sfu }: Scene, method: string, answer: { status: number; body: unknown }) {
  sfu.before(method, () => {
    sfu.alter = () => {
      sfu.alter = (usual) => usual
      return answer
    }
  })
}

const twirpError = (status: number, code: string) => ({ status, body: { code, msg: `twirp error unknown: ${code}` } })

describe('a call to the user of a session', () => {
  test('adds a SIP participant with the user’s identity and the pair, and dispatches the agent while it rings', async () => {
    const { s, placeCall, pair, room, user, trail } = await callScene()
    s.sfu.workers.add('tutor')
    const answer = await placeCall()
    expect(answer.status).toBe(201)
    expect(await fieldsOf(answer)).toMatchObject({ sessionId: pair.sessionId, seq: 1 })
    await s.background.idle()
    const { kind, attributes } = legOf(s, room, user.id).participant
    expect({ kind, attributes }).toEqual({ kind: 'SIP', attributes: { ...pair, 'sip.callStatus': 'dialing' } })
    expect([...(s.sfu.rooms.get(room)?.participants.values() ?? [])].map(({ kind }) => kind).sort()).toEqual([
      'AGENT',
      'SIP',
    ])
    const [event] = await s.eventsOf(user, pair)
    expect(event).toMatchObject({ type: 'session.call', data: { to: TO }, agentId: 'tutor' })
    expect(await trail()).toEqual(['allowed'])
  })

  test('sends the request and the grant that LiveKit’s own SDK sends', async () => {
    const { s, placeCall, pair, room } = await callScene()
    await placeCall()
    const client = new SipClient(s.config.livekitUrl, s.secrets.livekit.key, s.secrets.livekit.secret)
    await client.createSipParticipant(TRUNK, TO, room, {
      participantIdentity: pair.userId,
      participantAttributes: { ...pair },
      hidePhoneNumber: true,
      maxCallDuration: s.config.maxSessionMinutes * 60,
    })
    const [ours, theirs] = s.sfu.calls
    expect(ours?.message).toEqual(theirs?.message)
    // The SDK adds an empty grant for video.
    expect({ video: {}, ...ours?.grants }).toEqual(theirs?.grants)
    expect(ours?.grants).toEqual({ sip: { call: true } })
  })

  test('is the user’s presence once the phone is answered, not while it rings', async () => {
    const { s, call, report, status } = await callScene()
    const leg = await call()
    await deliver(s, 'participant_joined', leg)
    expect(await refusal(report())).toEqual(NOT_LIVE)
    await reconcileAfter(s, 20)
    expect(await status()).toBe('pending')
    pickUp(leg)
    await reconcileAfter(s, 20)
    expect(await status()).toBe('live')
    expect((await report()).status).toBe(201)
  })

  test('is the user’s presence for the guard before any webhook or reconciliation', async () => {
    const { s, call, report, status } = await callScene()
    pickUp(await call())
    expect((await report()).status).toBe(201)
    expect(await status()).toBe('live')
    expect(s.sfu.asked('GetParticipant')).toBeGreaterThan(0)
  })

  test('ends the presence when the user hangs up, and the session after RECONNECT_SECONDS', async () => {
    const { s, call, report, status } = await callScene()
    const leg = await call()
    pickUp(leg)
    await report()
    s.sfu.leave(leg)
    await deliver(s, 'participant_left', leg)
    expect(await status()).toBe('disconnected')
    expect(await refusal(report())).toEqual(NOT_LIVE)
    await reconcileAfter(s, 61)
    expect(await status()).toBe('ended')
  })

  test('that nobody answers leaves the session pending, and may be placed again', async () => {
    const { s, call, placeCall, status, user, pair } = await callScene()
    const leg = await call()
    s.sfu.leave(leg)
    await deliver(s, 'participant_left', leg)
    expect(await status()).toBe('pending')
    expect((await placeCall()).status).toBe(201)
    expect((await s.eventsOf(user, pair)).map(({ type }) => type)).toEqual(['session.call', 'session.call'])
  })

  test('that was cut off may be placed again, and the new phone counts instead of the old one', async () => {
    const { s, call, report, status } = await callScene()
    const first = await call()
    pickUp(first)
    await report()
    s.sfu.leave(first)
    await deliver(s, 'participant_left', first)
    const second = await call()
    pickUp(second)
    s.clock.advance(2)
    expect((await report()).status).toBe(201)
    expect(second.participant.sid).not.toBe(first.participant.sid)
    expect(await status()).toBe('live')
  })

  test('is hung up when the session ends', async () => {
    const { s, call, agent, pair, user, room } = await callScene()
    pickUp(await call())
    expect((await s.end(agent.bearer, pair)).status).toBe(200)
    await s.background.idle()
    expect(s.sfu.rooms.get(room)?.participants.get(user.id)).toBeUndefined()
  })

  test('is hung up alone when the session ends in a room that others use', async () => {
    const { s, user, agent } = await callScene()
    const { pair, room } = await s.newSession(user, { room: 'lesson', ...TUTOR })
    const body = { userId: user.id, to: TO }
    expect((await post(s.app, `/sessions/${pair.sessionId}/call`, body, agent.bearer)).status).toBe(201)
    await s.background.idle()
    const visitor = s.sfu.enter(room, { identity: 'supervisor' })
    await s.app.request(`/sessions/${pair.sessionId}`, {
      method: 'DELETE',
      headers: { Authorization: `Bearer ${user.bearer}` },
    })
    await s.background.idle()
    expect([...(s.sfu.rooms.get(room)?.participants.keys() ?? [])]).toEqual([visitor.participant.identity])
  })

  test('is hung up by the reconciler when LiveKit did not answer at the end', async () => {
    const { s, call, user, pair, room } = await callScene()
    await call()
    s.sfu.mode = 'error500'
    await s.app.request(`/sessions/${pair.sessionId}`, {
      method: 'DELETE',
      headers: { Authorization: `Bearer ${user.bearer}` },
    })
    await s.background.idle()
    s.sfu.mode = 'ok'
    await reconcileAfter(s, 20)
    expect(s.sfu.rooms.get(room)?.participants.get(user.id)).toBeUndefined()
  })

  test('is hung up when the session ends while LiveKit places it', async () => {
    const { s, placeCall, user, pair, room } = await callScene()
    s.sfu.before('CreateSIPParticipant', async () => {
      await s.sessions.end(pair.sessionId, 'user')
      await s.background.idle()
    })
    expect(await refusal(placeCall())).toEqual(ENDED)
    await s.background.idle()
    expect(s.sfu.rooms.get(room)?.participants.get(user.id)).toBeUndefined()
  })
})

test('a call whose session is deleted while LiveKit places it is hung up', async () => {
  const { s, placeCall, pair, room, user } = await callScene()
  s.sfu.before('CreateSIPParticipant', async () => {
    await directSessions(s.store).end(pair.sessionId, 'user')
    await s.store.users.pruneGuests(s.clock.now() + 1, 500)
    expect(await s.store.sessions.find(pair.sessionId)).toBeNull()
  })
  expect(await refusal(placeCall())).toEqual(ENDED)
  await s.background.idle()
  expect(s.sfu.rooms.get(room)?.participants.has(user.id) ?? false).toBe(false)
})

describe('an Idempotency-Key', () => {
  const once = { 'Idempotency-Key': 'once' }

  test('places one call, and gets the same answer again', async () => {
    const { s, placeCall, trail } = await callScene()
    const first = await (await placeCall(once)).json()
    const second = await placeCall(once)
    expect(second.status).toBe(201)
    expect(await second.json()).toEqual(first)
    expect(s.sfu.asked('CreateSIPParticipant')).toBe(1)
    expect((await trail()).sort()).toEqual(['allowed', 'replayed'])
  })

  test('is refused with another number', async () => {
    const { placeCall } = await callScene()
    await placeCall(once)
    const code = 'idempotency_key_reused'
    expect(await refusal(placeCall(once, { to: '+4930999999' }))).toEqual({ status: 422, code })
  })

  test('that another request uses while LiveKit places the call is that request’s, and the phone is the user’s', async () => {
    const { s, placeCall, report, pair, joinToken } = await callScene()
    s.sfu.before('CreateSIPParticipant', async () => {
      s.sfu.join(joinToken)
      expect((await report(once)).status).toBe(201)
    })
    expect((await placeCall(once)).status).toBe(201)
    expect((await s.store.sessions.find(pair.sessionId))?.phoneSid).not.toBeNull()
    expect(await refusal(placeCall(once))).toEqual({ status: 422, code: 'idempotency_key_reused' })
    await s.background.idle()
  })

  test('is free again after a call that LiveKit refused', async () => {
    const { s, placeCall } = await callScene()
    s.sfu.trunks.clear()
    expect(await refusal(placeCall(once))).toEqual({ status: 502, code: 'call_failed' })
    s.sfu.trunks.add(TRUNK)
    expect((await placeCall(once)).status).toBe(201)
  })
})

describe('a call is refused', () => {
  test('to an agent without the scope calls:place, which no account has by default', async () => {
    const { s, placeCall } = await callScene({}, ['progress:write', 'sessions:any'])
    expect(await refusal(placeCall())).toEqual({ status: 403, code: 'insufficient_scope' })
    expect(DEFAULT_SCOPES).not.toContain('calls:place')
    expect(s.sfu.asked('CreateSIPParticipant')).toBe(0)
  })

  test('to the user’s own token', async () => {
    const { placeCall, user } = await callScene()
    expect(await refusal(placeCall({}, {}, user.bearer))).toEqual({ status: 401, code: 'invalid_token' })
  })

  test('for another agent’s session, unless the caller has sessions:any', async () => {
    const { s, placeCall, trail } = await callScene()
    const coach = await s.newAgent('coach', ['calls:place'])
    expect(await refusal(placeCall({}, {}, coach.bearer))).toEqual({ status: 403, code: 'not_sessions_agent' })
    expect(await trail()).toEqual(['not_sessions_agent'])
    const everywhere = await s.newAgent('everywhere', ['calls:place', 'sessions:any'])
    expect((await placeCall({}, {}, everywhere.bearer)).status).toBe(201)
  })

  test('for a session that names no agent', async () => {
    const { s, user, agent } = await callScene()
    const { pair } = await s.newSession(user)
    const asked = post(s.app, `/sessions/${pair.sessionId}/call`, { userId: user.id, to: TO }, agent.bearer)
    expect(await refusal(asked)).toEqual({ status: 403, code: 'not_sessions_agent' })
  })

  test('for a session of another user, and for one that does not exist', async () => {
    const { s, placeCall, agent, pair } = await callScene()
    const mismatch = { status: 403, code: 'session_mismatch' }
    expect(await refusal(placeCall({}, { userId: (await s.newUser()).id }))).toEqual(mismatch)
    const unknown = post(s.app, '/sessions/sess_unknown/call', { userId: pair.userId, to: TO }, agent.bearer)
    expect(await refusal(unknown)).toEqual(mismatch)
    expect(s.sfu.asked('CreateSIPParticipant')).toBe(0)
  })

  test('for a session that has ended', async () => {
    const { s, placeCall, pair } = await callScene()
    await s.sessions.end(pair.sessionId, 'user')
    expect(await refusal(placeCall())).toEqual(ENDED)
    expect(s.sfu.asked('CreateSIPParticipant')).toBe(0)
  })

  test('for a session that the user has joined in the app, also after they left', async () => {
    const { s, placeCall, joinToken } = await callScene()
    const leg = s.sfu.join(joinToken)
    expect(await refusal(placeCall())).toEqual(USER_JOINED)
    await deliver(s, 'participant_joined', leg)
    s.sfu.leave(leg)
    await deliver(s, 'participant_left', leg)
    expect(await refusal(placeCall())).toEqual(USER_JOINED)
    expect(s.sfu.asked('CreateSIPParticipant')).toBe(0)
  })

  test('while the phone rings, and while the user is on it', async () => {
    const { s, call, placeCall, report } = await callScene()
    const leg = await call()
    const again = await placeCall()
    expect(again.headers.get('Retry-After')).toBe('30')
    expect(await refusal(again)).toEqual(IN_PROGRESS)
    pickUp(leg)
    expect((await report()).status).toBe(201)
    expect(await refusal(placeCall())).toEqual(IN_PROGRESS)
    expect(s.sfu.asked('CreateSIPParticipant')).toBe(1)
  })

  test('of all but one that are placed at the same time', async () => {
    const { s, placeCall } = await callScene()
    const answers = await Promise.all(Array.from({ length: 5 }, () => placeCall()))
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409])
    expect(s.sfu.asked('CreateSIPParticipant')).toBe(1)
  })

  test.each([
    '030123456',
    '+0301234567',
    '+49 30 123456',
    '+49301234567890123',
    'sip:eve@example.com',
    '+4930123456@evil.test',
    '',
  ])('to %j, which is no number in E.164', async (to) => {
    const { s, placeCall } = await callScene()
    expect(await refusal(placeCall({}, { to }))).toEqual({ status: 422, code: 'validation_failed' })
    expect(s.sfu.asked('CreateSIPParticipant')).toBe(0)
  })

  test('with a trunk of the caller’s own choice', async () => {
    const { placeCall } = await callScene()
    expect(await refusal(placeCall({}, { trunkId: 'ST_other' }))).toEqual({ status: 422, code: 'validation_failed' })
  })

  test('without SIP_TRUNK_ID', async () => {
    const { placeCall } = await callScene({ SIP_TRUNK_ID: '' })
    expect(await refusal(placeCall())).toEqual({ status: 403, code: 'calls_disabled' })
  })

  test('beyond CALLS_PER_AGENT_PER_HOUR', async () => {
    const { placeCall } = await callScene({ CALLS_PER_AGENT_PER_HOUR: '2' })
    await placeCall()
    expect(await refusal(placeCall())).toEqual(IN_PROGRESS)
    expect(await refusal(placeCall())).toEqual({ status: 429, code: 'rate_limited' })
  })
})

describe('a call that LiveKit does not place', () => {
  test.each([
    ['without a SIP service', 500, 'internal', 'needs Redis and livekit-sip'],
    ['with a SIP service that does not answer', 503, 'unavailable', 'needs Redis and livekit-sip'],
    ['without the trunk', 404, 'not_found', 'SIP_TRUNK_ID'],
    ['for a number that it refuses', 400, 'invalid_argument', 'the number'],
  ])('%s is refused with what to check, and the session can be called again', async (_, status, code, says) => {
    const { s, placeCall, trail } = await callScene()
    answerOnce(s, 'CreateSIPParticipant', twirpError(status, code))
    const answer = await placeCall()
    expect((await fieldsOf(answer.clone())).detail).toContain(says)
    expect(await refusal(answer)).toEqual({ status: 502, code: 'call_failed' })
    expect(await trail()).toEqual(['call_failed'])
    expect((await placeCall()).status).toBe(201)
  })

  test('because LiveKit cannot be reached stores nothing, and the session can be called again', async () => {
    const { s, placeCall, user, pair } = await callScene()
    s.sfu.mode = 'reset'
    expect(await refusal(placeCall())).toEqual({ status: 503, code: 'livekit_unavailable' })
    s.sfu.mode = 'ok'
    expect(await s.eventsOf(user, pair)).toEqual([])
    expect((await placeCall()).status).toBe(201)
  })

  test('as far as its answer says: the phone that rings is hung up, and never counts as the user', async () => {
    const { s, placeCall, report, user, room, pair } = await callScene()
    answerOnce(s, 'CreateSIPParticipant', { status: 200, body: 'lost' })
    expect(await refusal(placeCall())).toEqual({ status: 503, code: 'livekit_unavailable' })
    await s.background.idle()
    expect(s.sfu.rooms.get(room)?.participants.get(user.id)).toBeUndefined()
    expect(await refusal(report())).toEqual(NOT_LIVE)
    expect(await refusal(placeCall())).toEqual(IN_PROGRESS)
    s.clock.advance(30)
    expect((await placeCall()).status).toBe(201)
    expect((await s.eventsOf(user, pair)).length).toBe(1)
  })

  test('as far as its answer says: a phone that could not be hung up leaves with the session', async () => {
    const { s, placeCall, report, user, room, pair } = await callScene()
    s.sfu.before('CreateSIPParticipant', () => {
      s.sfu.alter = () => ({ status: 200, body: 'lost' })
    })
    expect(await refusal(placeCall())).toEqual({ status: 503, code: 'livekit_unavailable' })
    await s.background.idle()
    s.sfu.alter = (answer) => answer
    pickUp(legOf(s, room, user.id))
    expect(await refusal(report())).toEqual(NOT_LIVE)
    await s.sessions.end(pair.sessionId, 'user')
    await s.background.idle()
    expect(s.sfu.rooms.get(room)?.participants.get(user.id)).toBeUndefined()
  })
})

test('a phone is not hung up for another session of the same user in that room whose own call was lost', async () => {
  const { s, agent, user } = await callScene()
  const first = await s.newSession(user, { room: 'lesson', ...TUTOR })
  const second = await s.newSession(user, { room: 'lesson', ...TUTOR })
  const call = ({ pair }: Minted) =>
    post(s.app, `/sessions/${pair.sessionId}/call`, { userId: user.id, to: TO }, agent.bearer)
  answerOnce(s, 'CreateSIPParticipant', { status: 200, body: 'lost' })
  expect(await refusal(call(first))).toEqual({ status: 503, code: 'livekit_unavailable' })
  expect((await call(second)).status).toBe(201)
  await s.sessions.end(first.pair.sessionId, 'user')
  await s.background.idle()
  await reconcileAfter(s, 20)
  expect(legOf(s, 'lesson', user.id).participant.attributes.sessionId).toBe(second.pair.sessionId)
})

describe('a SIP participant that the service did not create', () => {
  test('is not the user of a session, whatever its identity and attributes say', async () => {
    const { s, agent, pair, room, report, status } = await callScene()
    const leg = s.sfu.enter(room, forgedBy(pair))
    expect(await refusal(report())).toEqual(NOT_LIVE)
    await deliver(s, 'participant_joined', leg)
    await reconcileAfter(s, 20)
    expect(await status()).toBe('pending')
    expect(await refusal(s.progress(agent.bearer, pair))).toEqual(NOT_LIVE)
  })

  test('does not end the presence of a user who is in the room, nor take it over', async () => {
    const { s, pair, room, joinToken, report, status } = await callScene()
    const leg = s.sfu.join(joinToken)
    await deliver(s, 'participant_joined', leg)
    expect((await report()).status).toBe(201)
    const forged = s.sfu.enter(room, forgedBy(pair, { identity: 'sip_+49666' }))
    await deliver(s, 'participant_joined', forged)
    s.sfu.leave(forged)
    await deliver(s, 'participant_left', forged)
    expect(await status()).toBe('live')
    s.sfu.leave(leg)
    s.sfu.enter(room, forgedBy(pair))
    await deliver(s, 'participant_left', leg)
    await reconcileAfter(s, 20)
    expect(await status()).toBe('disconnected')
    expect(await refusal(report())).toEqual(NOT_LIVE)
  })

  test('is not the user of a session whose phone rings or was answered', async () => {
    const { s, call, pair, room, report, status } = await callScene()
    const leg = await call()
    const second = s.sfu.enter(room, forgedBy(pair, { identity: 'sip_+49666' }))
    await deliver(s, 'participant_joined', second)
    expect(await refusal(report())).toEqual(NOT_LIVE)
    pickUp(leg)
    s.clock.advance(2)
    expect((await report()).status).toBe(201)
    // It takes the identity over, and with that disconnects the phone.
    const third = s.sfu.enter(room, forgedBy(pair))
    await deliver(s, 'participant_joined', third)
    await deliver(s, 'participant_left', leg)
    s.clock.advance(10)
    expect(await refusal(report())).toEqual(NOT_LIVE)
    await reconcileAfter(s, 20)
    expect(await status()).toBe('disconnected')
  })

  test('does not count as the user either while LiveKit does not answer', async () => {
    const { s, pair, room, report } = await callScene()
    s.sfu.enter(room, forgedBy(pair))
    s.sfu.mode = 'error500'
    expect(await refusal(report())).toEqual(UNKNOWN)
  })

  test('is not removed with the session that it names, and keeps the room open', async () => {
    const { s, pair, room, joinToken } = await callScene()
    s.sfu.join(joinToken)
    s.sfu.enter(room, forgedBy(pair, { identity: 'sip_+49666' }))
    await s.sessions.end(pair.sessionId, 'user')
    await s.background.idle()
    await reconcileAfter(s, 20)
    expect([...(s.sfu.rooms.get(room)?.participants.keys() ?? [])]).toEqual(['sip_+49666'])
    // LiveKit lists no participant of the session: it is not tried again.
    expect(await s.store.sessions.listToRemove()).toEqual([])
    const asked = s.sfu.asked('ListParticipants')
    await deliver(s, 'participant_joined', legOf(s, room, 'sip_+49666'))
    expect(s.sfu.asked('ListParticipants')).toBe(asked)
    await reconcileAfter(s, 20)
    expect(s.sfu.asked('ListParticipants')).toBe(asked + 1)
  })

  test('cannot keep a pending session from ending', async () => {
    const { s, pair, room } = await callScene()
    s.sfu.enter(room, forgedBy(pair))
    await reconcileAfter(s, 961)
    expect(await s.store.sessions.find(pair.sessionId)).toMatchObject({ endReason: 'never_joined' })
  })
})
