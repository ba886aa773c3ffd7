// What is measured: the requests of each case, and how an answer is checked.
import { createHash, createHmac } from 'node:crypto'
import { decodeJwt, jwtVerify } from 'jose'
import type { Behaviour } from './livekit.ts'
import { LIVEKIT_KEY, type Peer } from './servers.ts'
import type { Pair, World } from './store.ts'

/** One table each: figures for different work are never in one column. */
export const TABLES = {
  floor: 'Floors: HTTP alone, a small JSON body or answer',
  service: 'The service: authenticated, durable (fsync before the answer)',
  W1: 'W1, bare mint: room and identity in, join token out; no authentication, nothing stored',
  W2: 'W2, authenticated mint: access token and room in, join token out',
  W3: 'W3, callback with live check: POST /agent/progress',
  load: 'GET /auth/me on one connection, while another client writes on 32',
} as const

export interface Case {
  name: string
  table: keyof typeof TABLES
  what: string
  server: 'service' | 'bare' | 'hono' | 'mint' | 'verified' | Peer
  /** By default those that were asked for. */
  connections?: readonly number[]
  status: number
  /** A request is never sent twice: running out of them is an error. */
  once?: true
  /** The answer's refresh token is sent in the next request. */
  chain?: true
  /** How LiveKit behaves meanwhile. */
  livekit?: Behaviour
  /** Runs at the same time, on 32 connections; each waits so many milliseconds before a request. */
  under?: { other: string; pauseMs: number }
  /** At most that many requests will be sent. */
  prepare(count: number, world: World, connections: number): Promise<string[]>
  /** @throws Error when the answer is not what it should be */
  check(body: string, world: World): Promise<void>
}

interface Message {
  bearer?: string
  body?: unknown
  headers?: Record<string, string>
}

/** A request as it is on the wire. */
function http(method: string, path: string, { bearer, body, headers = {} }: Message = {}): string {
  const text = typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body)
  const all = {
    Host: 'api.bench.test',
    ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}),
    ...(text ? { 'Content-Type': 'application/json', 'Content-Length': String(Buffer.byteLength(text)) } : {}),
    ...headers,
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`)
  return [`${method} ${path} HTTP/1.1`, ...lines, '', text].join('\r\n')
}

function expect(isTrue: boolean, what: string, body: string): void {
  if (!isTrue) throw new Error(`An answer is wrong: ${what}: ${body.slice(0, 1000)}`)
}

/** Users who come back now and then, and pairs whose agent is talking. */
const USERS = 4_000
const READERS = 1_000
const HOT_PAIRS = 48

const secret = Buffer.from(LIVEKIT_KEY.secret)

async function checkJoinToken(token: string, room: string, identity: string, body: string): Promise<void> {
  const { payload } = await jwtVerify(token, secret, { algorithms: ['HS256'], issuer: LIVEKIT_KEY.key })
  const video = payload.video as Record<string, unknown>
  const grants = video.roomJoin === true && video.room === room && video.roomAdmin !== true
  expect(payload.sub === identity && grants, 'the claims of the join token', body)
  expect(Number(payload.exp) - Date.now() / 1000 > 800, 'the expiry of the join token', body)
}

async function checkToken(body: string): Promise<void> {
  const answer = JSON.parse(body)
  await checkJoinToken(answer.participant_token, answer.room_name, answer.participant_identity, body)
  const { metadata, attributes } = decodeJwt(answer.participant_token) as {
    metadata: string
    attributes: Record<string, string>
  }
  expect(JSON.parse(metadata).sessionId === answer.session_id, 'the session in the join token', body)
  expect(attributes.userId === answer.participant_identity, 'the user in the join token', body)
}

/** Every request of W1 is for the room and identity of one number. */
const wanted = (i: number) => ({ room: `room-${i}`, identity: `user-${i}` })
const prepareBareMint = async () => Array.from({ length: READERS }, (_, i) => http('POST', '/', { body: wanted(i) }))

async function checkBareMint(body: string): Promise<void> {
  const { participant_token } = JSON.parse(body)
  const [, i] = /^user-(\d+)$/.exec(String(decodeJwt(participant_token).sub)) ?? []
  await checkJoinToken(participant_token, `room-${i}`, `user-${i}`, body)
}

const bareMint = (name: string, server: Case['server'], what: string): Case => ({
  ...{ name, server, what, table: 'W1', connections: [32], status: 200 },
  prepare: prepareBareMint,
  check: checkBareMint,
})

const userTokens = (world: World, users: Array<{ userId: string; signInId: string }>) =>
  Promise.all(users.map((user) => world.tokens.issueUserToken(user)))

async function prepareTokens(users: number, world: World): Promise<string[]> {
  const bearers = await userTokens(world, world.newUsers(users))
  return bearers.map((bearer) => http('POST', '/token', { bearer, body: {} }))
}

async function prepareProgress(pairs: Pair[], world: World): Promise<string[]> {
  const bearer = await world.agentToken()
  const data = { text: 'I found three tables for two at eight.' }
  return pairs.map(({ userId, sessionId }) =>
    http('POST', '/agent/progress', { bearer, body: { userId, sessionId, data } }),
  )
}

async function checkProgress(body: string): Promise<void> {
  const { sessionId, seq } = JSON.parse(body)
  expect(/^sess_[0-9a-f]{44}$/.test(sessionId) && seq > 0, 'the stored event', body)
}

const stale = (delayMs: number): Case => ({
  name: `progress-stale-${delayMs}ms`,
  table: 'W3',
  what: `the confirmation is stale; LiveKit answers after ${delayMs} ms`,
  server: 'service',
  connections: [32],
  status: 201,
  once: true,
  livekit: { delayMs, isDown: false },
  prepare: async (count, world) => prepareProgress(world.newPairs(count, 'stale'), world),
  check: checkProgress,
})

/** What LiveKit sends when a user joins or leaves, signed as LiveKit signs. */
function webhook(event: 'participant_joined' | 'participant_left', { userId, sessionId, room, sid }: Pair): string {
  const now = Math.floor(Date.now() / 1000)
  const participant = {
    ...{ sid, identity: userId, state: event === 'participant_left' ? 'DISCONNECTED' : 'ACTIVE' },
    ...{ joinedAt: String(now), joinedAtMs: `${now}000`, version: 3, attributes: { sessionId, userId } },
    metadata: JSON.stringify({ sessionId }),
    permission: { canSubscribe: true, canPublish: true, canPublishData: true },
    ...(event === 'participant_left' ? { disconnectReason: 'CLIENT_INITIATED' } : {}),
  }
  const body = JSON.stringify({
    event,
    room: {
      ...{ sid: `RM_${sid.slice(3)}`, name: room, emptyTimeout: 300, departureTimeout: 20, creationTime: String(now) },
      ...{ creationTimeMs: `${now}000`, enabledCodecs: [{ mime: 'audio/opus' }, { mime: 'video/VP8' }] },
    },
    participant,
    id: `EV_${event.at(12)}${sid.slice(3)}`,
    createdAt: String(now),
  })
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const sha256 = createHash('sha256').update(body).digest('base64')
  const claims = { exp: now + 300, iss: LIVEKIT_KEY.key, nbf: now, sha256 }
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`
  const signature = createHmac('sha256', LIVEKIT_KEY.secret).update(signed).digest('base64url')
  const headers = { Authorization: `${signed}.${signature}`, 'Content-Type': 'application/webhook+json' }
  return http('POST', '/livekit/webhook', { body, headers })
}

async function checkReceived(body: string): Promise<void> {
  expect(JSON.parse(body).received === true, 'the receipt', body)
}

/** Larger than the number of connections, so that a user has joined before they leave. */
const BLOCK = 1_000

function joinsAndLeaves(pairs: Pair[]): string[] {
  const blocks = Array.from({ length: Math.ceil(pairs.length / BLOCK) }, (_, i) =>
    pairs.slice(i * BLOCK, (i + 1) * BLOCK),
  )
  return blocks.flatMap((block) => [
    ...block.map((pair) => webhook('participant_joined', pair)),
    ...block.map((pair) => webhook('participant_left', pair)),
  ])
}

async function prepareReaders(path: (pair: Pair) => string, world: World): Promise<string[]> {
  const pairs = world.newPairs(READERS, 'fresh')
  const bearers = await userTokens(world, pairs)
  return pairs.map((pair, i) => http('GET', path(pair), { bearer: bearers[i] ?? '' }))
}

const me = {
  server: 'service',
  status: 200,
  prepare: (_: number, world: World) => prepareReaders(() => '/auth/me', world),
  async check(body: string) {
    expect(/^user_[0-9a-f]{44}$/.test(JSON.parse(body).id), 'the user', body)
  },
} as const

const underLoad = (name: string, what: string, pauseMs: number): Case => ({
  ...{ ...me, name, what, table: 'load', connections: [1] },
  under: { other: 'token', pauseMs },
})

export const CASES: readonly Case[] = [
  {
    ...{ name: 'node-get', table: 'floor', what: 'node:http GET', server: 'bare', status: 200 },
    prepare: async () => [http('GET', '/')],
    check: async (body) => expect(JSON.parse(body).ok === true, 'the answer', body),
  },
  {
    ...{ name: 'node-post', table: 'floor', what: 'node:http POST JSON', server: 'bare', status: 200 },
    prepare: prepareBareMint,
    check: async (body) => expect(JSON.parse(body).room.startsWith('room-'), 'the echo', body),
  },
  {
    ...{ name: 'hono-post', table: 'floor', what: 'Hono POST JSON', server: 'hono', status: 200 },
    prepare: prepareBareMint,
    check: async (body) => expect(JSON.parse(body).room.startsWith('room-'), 'the echo', body),
  },
  {
    ...{ name: 'token', table: 'service', server: 'service', status: 201 },
    what: `POST /token, ${USERS} users in turn, each with one access token`,
    prepare: (_, world) => prepareTokens(USERS, world),
    check: checkToken,
  },
  {
    ...{ name: 'token-first', table: 'service', server: 'service', status: 201, once: true },
    what: 'POST /token, each request with an access token never seen before',
    prepare: (count, world) => prepareTokens(count, world),
    check: checkToken,
  },
  {
    ...{ name: 'progress', table: 'service', server: 'service', status: 201 },
    what: `POST /agent/progress, ${HOT_PAIRS} live pairs in turn`,
    prepare: async (_, world) => prepareProgress(world.newPairs(HOT_PAIRS, 'fresh'), world),
    check: checkProgress,
  },
  {
    ...{ name: 'progress-new', table: 'service', server: 'service', status: 201, once: true },
    what: 'POST /agent/progress, a new live pair each time',
    prepare: async (count, world) => prepareProgress(world.newPairs(count, 'fresh'), world),
    check: checkProgress,
  },
  {
    ...{ name: 'webhook', table: 'service', server: 'service', status: 200, once: true },
    what: 'POST /livekit/webhook: a user joins, another leaves; each changes a session',
    prepare: async (count, world) => joinsAndLeaves(world.newPairs(Math.ceil(count / 2), 'pending')),
    check: checkReceived,
  },
  {
    ...{ name: 'webhook-duplicate', table: 'service', server: 'service', status: 200 },
    what: 'the same, delivered before',
    prepare: async (_, world) => joinsAndLeaves(world.newPairs(32, 'pending')),
    check: checkReceived,
  },
  {
    ...{ name: 'refresh', table: 'service', server: 'service', status: 200, chain: true },
    what: 'POST /auth/refresh, each with the token of the last answer',
    prepare: async (_, world, connections) =>
      world
        .newUsers(connections + 8)
        .map(({ refreshToken }) => http('POST', '/auth/refresh', { body: { refresh_token: refreshToken } })),
    async check(body, world) {
      const { access_token, user } = JSON.parse(body)
      expect((await world.tokens.verifyUserToken(access_token)).userId === user.id, 'the access token', body)
    },
  },
  {
    ...{ name: 'session', table: 'service', server: 'service', status: 200 },
    what: `GET /sessions/{id}, ${READERS} users in turn`,
    prepare: (_, world) => prepareReaders(({ sessionId }) => `/sessions/${sessionId}`, world),
    check: async (body) => expect(JSON.parse(body).status === 'live', 'the session', body),
  },
  { ...me, name: 'me', table: 'service', what: `GET /auth/me, ${READERS} users in turn` },
  bareMint('mint', 'mint', 'ours: livekit/join-token.ts behind Hono'),
  bareMint('mint-express', 'express', 'Express + livekit-server-sdk'),
  bareMint('mint-fastapi', 'fastapi', 'FastAPI + livekit-api'),
  bareMint('mint-go', 'go', 'Go net/http + livekit/protocol/auth'),
  {
    ...{ name: 'verified-mint', table: 'W2', server: 'verified', connections: [32], status: 201 },
    what: 'ours without the row: auth/tokens.ts and livekit/join-token.ts behind Hono',
    prepare: async (_, world) =>
      (await userTokens(world, world.newUsers(USERS))).map((bearer, i) =>
        http('POST', '/', { bearer, body: wanted(i) }),
      ),
    async check(body) {
      const { participant_token } = JSON.parse(body)
      const { sub = '', video } = decodeJwt(participant_token) as { sub: string; video: { room: string } }
      await checkJoinToken(participant_token, video.room, sub, body)
    },
  },
  {
    ...{ name: 'mint-with-row', table: 'W2', server: 'service', connections: [32], status: 201 },
    what: 'ours: POST /token',
    prepare: (_, world) => prepareTokens(USERS, world),
    check: checkToken,
  },
  {
    ...{ name: 'progress-fresh', table: 'W3', server: 'service', connections: [32], status: 201, once: true },
    what: 'the confirmation is fresh',
    prepare: async (count, world) => prepareProgress(world.newPairs(count, 'fresh'), world),
    check: checkProgress,
  },
  stale(1),
  stale(5),
  stale(20),
  {
    ...{ name: 'progress-down', table: 'W3', server: 'service', connections: [32], status: 503 },
    what: 'the confirmation is stale and LiveKit is down: refused with 503',
    livekit: { delayMs: 0, isDown: true },
    prepare: async (_, world) => prepareProgress(world.newPairs(READERS, 'stale'), world),
    check: async (body) => expect(JSON.parse(body).code === 'liveness_unknown', 'the refusal', body),
  },
  underLoad('me-under-token', 'while 32 connections send POST /token as fast as they can', 0),
  underLoad('me-under-paced-token', 'while 32 connections send about 300 POST /token a second', 100),
]
