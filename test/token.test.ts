import { AccessToken, type AccessTokenOptions } from 'livekit-server-sdk'
import { describe, expect, test, vi } from 'vitest'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { SCOPES } from '../src/auth/scopes.ts'
import { callingScene } from './scene.ts'
import { makeApp, post, type TestApp } from './support.ts'
import { joinClaims, mint, minted } from './token-client.ts'

/** The app and a signed-in guest; LiveKit cannot be reached, and minting does not need it. */
async function setUp(env: Record<string, string> = {}) {
  const t = await makeApp({ env })
  const signedIn = SignedInResponse.parse(await (await post(t.app, '/auth/guest', { name: 'Gwen' })).json())
  return { t, userId: signedIn.user.id, bearer: signedIn.access_token }
}

/** Sends a raw body, or none. */
const send = ({ app }: TestApp, bearer: string, body?: string) =>
  app.request('/token', {
    method: 'POST',
    headers: { Authorization: `Bearer ${bearer}`, ...(body ? { 'Content-Type': 'application/json' } : {}) },
    ...(body === undefined ? {} : { body }),
  })

const NULLS = JSON.stringify({
  room_name: null,
  participant_identity: null,
  participant_name: null,
  participant_metadata: null,
  participant_attributes: null,
  room_config: null,
  room: null,
  identity: null,
  name: null,
  auto_create_room: null,
  session_id: null,
})

test('POST /token accepts names in every script, with emoji and joiners', async () => {
  const { t, bearer } = await setUp()
  for (const name of [
    '👩‍🚀 ❤️',
    'نمی‌خواهم',
    'Ζωή  O’Neil',
    '🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}',
  ]) {
    expect((await mint(t, bearer, { name })).participant_name).toBe(name)
  }
})

describe('POST /token with an empty request', () => {
  test.each([
    ['no body', undefined],
    ['an empty body', ''],
    ['{}', '{}'],
    ['an empty room_config, as Swift and Flutter send it', '{"room_config":{}}'],
    ['null for everything', NULLS],
    ['empty strings', '{"room_name":"","participant_identity":"","participant_metadata":"","name":"","session_id":""}'],
    ['defaults that say nothing', '{"room_config":{"empty_timeout":0,"tags":{},"egress":null,"agents":[]}}'],
    ['unknown keys of room_config', '{"room_config":{"brand_new":{"x":1},"agents":[]}}'],
    ['an unknown key nested without end', `{"room_config":{"x":${'['.repeat(20_000)}${']'.repeat(20_000)}}}`],
  ])('works with %s', async (_, body) => {
    const { t, userId, bearer } = await setUp()
    const answer = await minted(send(t, bearer, body))
    expect(answer).toMatchObject({ identity: userId, participant_name: 'Gwen' })
    expect((await joinClaims(t, answer.token)).roomConfig?.agents).toBeUndefined()
  })

  test('gets a new, unguessable room each time', async () => {
    const { t, bearer } = await setUp()
    const answers = await Promise.all(Array.from({ length: 8 }, () => mint(t, bearer)))
    for (const { room } of answers) expect(room).toMatch(/^room_[0-9a-f]{44}$/)
    expect(new Set(answers.map(({ room }) => room)).size).toBe(8)
    expect(new Set(answers.map(({ session_id }) => session_id)).size).toBe(8)
  })
})

describe('the answer of POST /token', () => {
  test('has both dialects, whichever the request used', async () => {
    const { t, userId, bearer } = await setUp()
    const { room } = await mint(t, bearer)
    const asked = [
      { room_name: room, participant_identity: userId, participant_name: 'Ada' },
      { room, identity: userId, name: 'Ada' },
      { room_name: room, room, participant_identity: userId, identity: userId, participant_name: 'Ada', name: 'Ada' },
    ]
    for (const request of asked) {
      const answer = await mint(t, bearer, request)
      expect(answer).toEqual({
        server_url: t.config.livekitUrl,
        participant_token: answer.token,
        room_name: room,
        participant_identity: userId,
        participant_name: 'Ada',
        session_id: expect.stringMatching(/^sess_[0-9a-f]{44}$/),
        expires_at: Math.floor(t.clock.now() / 1000) + 900,
        url: t.config.livekitUrl,
        token: expect.any(String),
        room,
        identity: userId,
      })
    }
  })

  test('has no participant name when none was given', async () => {
    const { app, secrets, clock } = await makeApp()
    const { access_token } = SignedInResponse.parse(await (await post(app, '/auth/guest', {})).json())
    const answer = await mint({ app }, access_token)
    expect(answer).not.toHaveProperty('participant_name')
    expect(await joinClaims({ secrets, clock }, answer.token)).not.toHaveProperty('name')
  })

  test('belongs to a pending session', async () => {
    const { t, userId, bearer } = await setUp()
    const { session_id, room } = await mint(t, bearer)
    const headers = { Authorization: `Bearer ${bearer}` }
    const session = await (await t.app.request(`/sessions/${session_id}`, { headers })).json()
    const createdAt = new Date(t.clock.now()).toISOString()
    expect(session).toEqual({ id: session_id, userId, room, status: 'pending', createdAt })
  })
})

describe('the join token', () => {
  test('carries the user and session, and grants only joining that room (A49)', async () => {
    const { t, userId, bearer } = await setUp({ RECONNECT_SECONDS: '45' })
    const { token, session_id, room, expires_at } = await mint(t, bearer, {
      participant_metadata: JSON.stringify({ theme: 'dark', nested: { sessionId: 'of something else' } }),
      participant_attributes: { level: '3' },
    })
    const { metadata, ...claims } = await joinClaims(t, token)
    const issuedAt = Math.floor(t.clock.now() / 1000)
    expect(JSON.parse(metadata ?? '')).toEqual({
      theme: 'dark',
      nested: { sessionId: 'of something else' },
      sessionId: session_id,
    })
    expect(claims).toEqual({
      iss: 'devkey',
      sub: userId,
      nbf: issuedAt,
      exp: issuedAt + 900,
      name: 'Gwen',
      attributes: { level: '3', sessionId: session_id, userId },
      video: {
        roomJoin: true,
        room,
        canPublish: true,
        canSubscribe: true,
        canPublishData: true,
        canUpdateOwnMetadata: false,
      },
      roomConfig: { emptyTimeout: 300, departureTimeout: 45 },
    })
    expect(expires_at).toBe(claims.exp)
  })

  describe('has the same bytes as the SDK’s', () => {
    /** The SDK's token for the same claims at the app's time; it takes no clock. */
    async function bySdk(t: TestApp, options: AccessTokenOptions, room: string, more: Partial<AccessToken>) {
      const { key, secret } = t.secrets.livekit
      const token = new AccessToken(key, secret, { ...options, ttl: 900 })
      const rights = { canPublish: true, canSubscribe: true, canPublishData: true, canUpdateOwnMetadata: false }
      token.addGrant({ roomJoin: true, room, ...rights })
      Object.assign(token, more)
      vi.useFakeTimers({ toFake: ['Date'], now: t.clock.now() })
      return token.toJwt().finally(() => vi.useRealTimers())
    }

    test('for a user', async () => {
      const { s, user } = await callingScene()
      const { id: identity, bearer } = user
      const name = 'Zoë 👩‍🚀'
      const request = {
        name,
        participant_metadata: JSON.stringify({ theme: 'dark' }),
        participant_attributes: { level: '3' },
        room_config: { agents: [{ agent_name: 'tutor', metadata: 'level 3' }] },
      }
      const { token, room, session_id: sessionId = '' } = await mint(s, bearer, request)
      const metadata = JSON.stringify({ theme: 'dark', sessionId })
      const attributes = { level: '3', sessionId, userId: identity }
      // In its JSON form, since the SDK would write every default of the message itself.
      const agents = [{ agentName: 'tutor', metadata: 'level 3', attributes: { userId: identity, sessionId } }]
      const roomConfig = { emptyTimeout: 300, departureTimeout: s.config.reconnectSeconds, agents } as never
      expect(token).toBe(await bySdk(s, { identity, name, metadata, attributes }, room, { roomConfig }))
    })

    test('for an agent', async () => {
      const { s, agent, room } = await callingScene({}, SCOPES)
      const { token, identity } = await mint(s, agent.bearer, { room })
      expect(token).toBe(await bySdk(s, { identity, name: agent.id }, room, { kind: 'agent' }))
    })
  })

  test('contains no e-mail address (A51)', async () => {
    const { app } = await makeApp()
    const account = { email: 'ada@example.com', password: 'correct horse', name: 'Ada' }
    const { access_token } = SignedInResponse.parse(await (await post(app, '/auth/register', account)).json())
    const { token } = await mint({ app }, access_token)
    const [, payload = ''] = token.split('.')
    expect(Buffer.from(payload, 'base64url').toString()).not.toContain('example.com')
  })
})

describe('POST /token with session_id', () => {
  test('issues a new token for the same session, room and identity', async () => {
    const { t, bearer } = await setUp()
    const first = await mint(t, bearer, { name: 'Ada' })
    t.clock.advance(600)
    const second = await mint(t, bearer, { session_id: first.session_id, participant_attributes: { tab: '2' } })
    expect(second).toMatchObject({ session_id: first.session_id, room: first.room, identity: first.identity })
    expect(second.expires_at).toBe(first.expires_at + 600)
    const claims = await joinClaims(t, second.token)
    expect(claims.attributes).toMatchObject({ tab: '2', sessionId: first.session_id })
    expect(claims.video.room).toBe(first.room)
    // The room may be named too, as long as it is that one.
    expect(await mint(t, bearer, { session_id: first.session_id, room: first.room })).toMatchObject({
      room: first.room,
    })
  })

  test('creates no session, while every call without it does, even in the same room', async () => {
    const { t, bearer } = await setUp()
    const { session_id, room } = await mint(t, bearer)
    await mint(t, bearer, { session_id })
    const sessions = async () => {
      const answer = await t.app.request('/sessions', { headers: { Authorization: `Bearer ${bearer}` } })
      return ((await answer.json()) as { sessions: unknown[] }).sessions.length
    }
    expect(await sessions()).toBe(1)
    expect((await mint(t, bearer, { room })).session_id).not.toBe(session_id)
    expect(await sessions()).toBe(2)
  })
})
