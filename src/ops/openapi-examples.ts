const userId = 'user_0199f0c1a2b34f6d1c0e9b7a8d3e5f60a1b2c3d4e5f6'
const sessionId = 'sess_0199f0c1b7e28a1b2c3d4e5f60718293a4b5c6d7e8f9'
const room = 'room_0199f0c1b7e25f0c8e1d7a3b49628d1e0f3a5b7c9d24'
const at = '2026-01-01T12:00:00.000Z'
const accessToken = 'eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9…'
const joinToken = 'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9…'
const refreshToken = 'q3mT0cXk…'

const user = { id: userId, email: 'ada@example.com', name: 'Ada' }
const session = { id: sessionId, userId, room, status: 'live', createdAt: at }
const event = { seq: 2, type: 'progress', data: { status: 'done' }, agentId: 'tutor', createdAt: at }
const pair = { userId, sessionId }

/** One example per named schema that is a whole body or answer; the linter holds them to their schemas. */
export const EXAMPLES: Readonly<Record<string, object>> = {
  Register: { email: 'ada@example.com', password: 'correct horse battery', name: 'Ada' },
  Login: { email: 'ada@example.com', password: 'correct horse battery' },
  Guest: { name: 'Ada' },
  RefreshToken: { refresh_token: refreshToken },
  SignedIn: { user, access_token: accessToken, token_type: 'Bearer', expires_in: 900, refresh_token: refreshToken },
  Me: { ...user, guest: false },
  TokenRequest: { room_config: { agents: [{ agent_name: 'tutor' }] } },
  TokenResponse: {
    server_url: 'wss://livekit.example.com',
    participant_token: joinToken,
    room_name: room,
    participant_identity: userId,
    participant_name: 'Ada',
    session_id: sessionId,
    expires_at: 1767269700,
    url: 'wss://livekit.example.com',
    token: joinToken,
    room,
    identity: userId,
  },
  CreateRoom: { room: 'lesson-12' },
  Room: { room: 'lesson-12', room_name: 'lesson-12' },
  Session: session,
  SessionPage: { sessions: [session] },
  EventPage: { events: [event], after: 2, hasMore: false },
  AgentTokenAnswer: {
    access_token: accessToken,
    token_type: 'Bearer',
    expires_in: 900,
    scope: 'progress:write context:read',
  },
  AgentTokenError: { error: 'invalid_client', error_description: 'Client authentication failed.' },
  Progress: { ...pair, type: 'progress', data: { status: 'done' } },
  StoredEvent: { sessionId, seq: 2, createdAt: at },
  Context: { user: { ...user, guest: false }, session, events: [event], cursor: 2 },
  EndSession: { ...pair, reason: 'lesson finished', result: { score: 9 } },
  Health: {
    status: 'ok',
    version: '0.1.0',
    store: { status: 'ok' },
    livekit: { status: 'ok' },
    lastWebhookAt: at,
  },
}
