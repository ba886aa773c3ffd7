// What is measured: the requests of each case, and how an answer is checked.
import { createHash, createHmac } from 'node:crypto'
import { decodeJwt, jwtVerify } from 'jose'
import type { Behaviour } from './livekit.ts'
import { LIVEKIT_KEY, PEERS, type Peer } from './servers.ts'
import type { Evidence, Pair, User, World } from './store.ts'

/** One table each: figures for different work are never in one column. */
export const TABLES = {
  floor: 'Floors: HTTP alone, a small JSON body or answer',
  service: 'The service: authenticated, durable (fsync before the answer)',
  W1: 'W1, bare mint: room and identity in, join token out; no authentication, nothing stored',
  W2: 'W2, authenticated mint: access token and room in, join token out',
  W3: 'W3, callback with live check: POST /agent/progress',
  least:
    'The least of it: the same rows, commit and fsync, and the same signatures, behind bare node:http; nothing is checked',
  load: 'GET /auth/me on one connection, while another client writes on 32',
} as const

export interface Case {
  name: string
  table: keyof typeof TABLES
  what: string
  server: 'service' | 'bare' | 'hono' | 'mint' | 'verified' | 'least' | Peer
  /** By default those that were asked for. */
  connections?: readonly number[]
  status: number
  /** A request is never sent twice: running out of them is an error. */
  once?: true
  /** The answer's refresh token is sent in the next request. */
  chain?: true
  /** How often a request makes the service ask LiveKit about the user. */
  asks?: 0 | 1
  /** How LiveKit behaves meanwhile. */
  livekit?: Behaviour
  /** Runs at the same time, on 32 connections; each waits so many milliseconds before a request. */
  under?: { other: string; pauseMs: number }
  /** At most that many requests will be sent. */
  prepare(count: number, world: World, connections: number, url: string): Promise<string[]>
  /** @throws Error when the answer is not what it should be */
  check(body: string, world: World): Promise<void>
}

interface Message {
  bearer?: string
  body?: unknown
  headers?: Record<string, string>
}

/** A request as it is on the wire. */
export function http(method: string, path: string, { bearer, body, headers = {} }: Message = {}): string {
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
const JSON_TYPE = { 'Content-Type': 'application/json' }
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
  const claims = decodeJwt<{ metadata: string; attributes: Record<string, string> }>(answer.participant_token)
  expect(JSON.parse(claims.metadata).sessionId === answer.session_id, 'the session in the join token', body)
  expect(claims.attributes.userId === answer.participant_identity, 'the user in the join token', body)
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

const userTokens = (world: World, users: User[]) => Promise.all(users.map((user) => world.tokens.issueUserToken(user)))

const tokenRequest = (bearer: string) => http('POST', '/token', { bearer, body: {} })

/** Users with the access tokens that the service itself issued to them. */
async function prepareTokens(world: World, url: string): Promise<string[]> {
  const requests: string[] = []
  const users = world.newUsers(USERS).values()
  async function refreshEach(): Promise<void> {
    for (const { refreshToken } of users) {
      const body = JSON.stringify({ refresh_token: refreshToken })
      const answer = await fetch(`${url}/auth/refresh`, { method: 'POST', headers: JSON_TYPE, body })
      const { access_token } = (await answer.json()) as { access_token: string }
      requests.push(tokenRequest(access_token))
    }
  }
  await Promise.all(Array.from({ length: 16 }, refreshEach))
  return requests
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

type Rest = Pick<Case, 'status' | 'prepare' | 'check'> & Partial<Case>

const floor = (name: string, what: string, server: Case['server'], rest: Omit<Rest, 'status'>): Case => ({
  ...{ name, what, server, table: 'floor', status: 200 },
  ...rest,
})
const ours = (name: string, what: string, rest: Rest): Case => ({
  ...{ name, what, server: 'service', table: 'service' },
  ...rest,
})

const leastOf = (name: string, what: string, rest: Rest): Case => ({
  ...{ name: `least-${name}`, what, server: 'least', table: 'least' },
  ...rest,
})

const echo = {
  prepare: prepareBareMint,
  check: async (body: string) => expect(JSON.parse(body).room.startsWith('room-'), 'the echo', body),
}

/** What W2 shares with `token`, under a name of its own. */
const tokenInTurn: Rest = {
  status: 201,
  prepare: (_, world, _connections, url) => prepareTokens(world, url),
  check: checkToken,
}

const progress: Rest = {
  ...{ status: 201, asks: 0 },
  prepare: async (_, world) => prepareProgress(world.newPairs(HOT_PAIRS, 'fresh'), world),
  check: checkProgress,
}

const joinAndLeave: Rest = {
  ...{ status: 200, once: true, check: checkReceived },
  prepare: async (count, world) => joinsAndLeaves(world.newPairs(Math.ceil(count / 2), 'pending')),
}

const refresh: Rest = {
  ...{ status: 200, chain: true },
  async prepare(_, world, connections) {
    const users = world.newUsers(connections + 8)
    return users.map((user) => http('POST', '/auth/refresh', { body: { refresh_token: user.refreshToken } }))
  },
  async check(body, world) {
    const { access_token, user } = JSON.parse(body)
    expect((await world.tokens.verifyUserToken(access_token)).userId === user.id, 'the access token', body)
  },
}

const newPairEachTime = (evidence: Evidence): Rest => ({
  ...{ status: 201, once: true, asks: evidence === 'stale' ? 1 : 0 },
  prepare: async (count, world) => prepareProgress(world.newPairs(count, evidence), world),
  check: checkProgress,
})

const stale = (delayMs: number): Case =>
  ours(`progress-stale-${delayMs}ms`, `the confirmation is stale; LiveKit answers after ${delayMs} ms`, {
    ...newPairEachTime('stale'),
    ...{ table: 'W3', connections: [32], livekit: { delayMs, isDown: false } },
  })

const me: Rest = {
  status: 200,
  prepare: (_, world) => prepareReaders(() => '/auth/me', world),
  check: async (body) => expect(/^user_[0-9a-f]{44}$/.test(JSON.parse(body).id), 'the user', body),
}

const meUnder = (name: string, what: string, pauseMs: number): Case =>
  ours(name, what, { ...me, table: 'load', connections: [1], under: { other: 'token', pauseMs } })

export const CASES: readonly Case[] = [
  floor('node-get', 'node:http GET', 'bare', {
    prepare: async () => [http('GET', '/')],
    check: async (body) => expect(JSON.parse(body).ok === true, 'the answer', body),
  }),
  floor('node-post', 'node:http POST JSON', 'bare', echo),
  floor('hono-post', 'Hono POST JSON', 'hono', echo),

  ours('token', `POST /token, ${USERS} users in turn, each with one access token`, tokenInTurn),
  ours('token-verified', 'POST /token, each with an access token that another instance issued', {
    ...tokenInTurn,
    once: true,
    prepare: async (count, world) => (await userTokens(world, world.newUsers(count))).map(tokenRequest),
  }),
  ours('progress', `POST /agent/progress, ${HOT_PAIRS} live pairs in turn`, progress),
  ours('progress-new', 'POST /agent/progress, a new live pair each time', newPairEachTime('fresh')),
  ours('webhook', 'POST /livekit/webhook: users join and leave, and each time a session changes', joinAndLeave),
  ours('webhook-duplicate', 'the same, delivered before', {
    ...{ status: 200, check: checkReceived },
    prepare: async (_, world) => joinsAndLeaves(world.newPairs(32, 'pending')),
  }),
  ours('refresh', 'POST /auth/refresh, each with the token of the last answer', refresh),
  ours('session', `GET /sessions/{id}, ${READERS} users in turn`, {
    status: 200,
    prepare: (_, world) => prepareReaders(({ sessionId }) => `/sessions/${sessionId}`, world),
    check: async (body) => expect(JSON.parse(body).status === 'live', 'the session', body),
  }),
  ours('me', `GET /auth/me, ${READERS} users in turn`, me),

  bareMint('mint', 'mint', 'ours: livekit/join-token.ts behind Hono'),
  ...Object.entries(PEERS).map(([peer, { what }]) => bareMint(`mint-${peer}`, peer as Peer, what)),

  {
    ...{ name: 'mint-verified', table: 'W2', server: 'verified', connections: [32], status: 201 },
    what: 'ours without the row: auth/tokens.ts and livekit/join-token.ts behind Hono',
    async prepare(_, world) {
      const bearers = await userTokens(world, world.newUsers(USERS))
      return bearers.map((bearer, i) => http('POST', '/', { bearer, body: wanted(i) }))
    },
    async check(body) {
      const { participant_token } = JSON.parse(body)
      const { sub = '', video } = decodeJwt<{ video: { room: string } }>(participant_token)
      await checkJoinToken(participant_token, video.room, sub, body)
    },
  },
  ours('mint-with-row', 'ours: POST /token', { ...tokenInTurn, table: 'W2', connections: [32] }),

  ours('progress-fresh', 'the confirmation is fresh', {
    ...newPairEachTime('fresh'),
    ...{ table: 'W3', connections: [32] },
  }),
  stale(1),
  stale(5),
  stale(20),
  ours('progress-down', 'the confirmation is stale and LiveKit is down: refused with 503', {
    ...{ table: 'W3', connections: [32], status: 503, livekit: { delayMs: 0, isDown: true } },
    prepare: async (_, world) => prepareProgress(world.newPairs(READERS, 'stale'), world),
    check: async (body) => expect(JSON.parse(body).code === 'liveness_unknown', 'the refusal', body),
  }),

  leastOf('token', 'a join token, and one new session', {
    status: 200,
    prepare: async (_, world) =>
      world.newUsers(USERS).map(({ userId }) => http('POST', '/token', { body: { identity: userId } })),
    async check(body) {
      const { participant_token } = JSON.parse(body)
      const { sub = '', video } = decodeJwt<{ video: { room: string } }>(participant_token)
      await checkJoinToken(participant_token, video.room, sub, body)
    },
  }),
  leastOf('progress', 'one event, the session’s counters, and the audit entry', { ...progress, status: 200 }),
  leastOf('webhook', 'its signature, its id, a presence, the session, and one event', joinAndLeave),
  leastOf('refresh', 'an access token, the used refresh token, and the next one', refresh),

  meUnder('me-under-token', 'while 32 connections send POST /token as fast as they can', 0),
  meUnder('me-under-paced-token', 'while 32 connections send about 300 POST /token a second', 100),
]

/** @throws Error for a name that no case has */
export function caseNamed(name: string): Case {
  const found = CASES.find((one) => one.name === name)
  if (!found) throw new Error(`No case is named ${name}`)
  return found
}
