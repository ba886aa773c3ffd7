// What the service is compared with: the HTTP below it, and parts of its own work. Started by servers.ts:
// node --import tsx small-servers.ts <name> <port> <LiveKit key> <LiveKit secret> [<DATABASE_URL> <PUBLIC_URL>]
import { hash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { built } from './built.ts'

const [, , name = '', port, key = '', secret = '', databaseUrl = '', publicUrl = ''] = process.argv

interface Wanted {
  room: string
  identity: string
}

function send(response: ServerResponse, value: unknown): void {
  const text = JSON.stringify(value)
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) }).end(text)
}

/** Behind node:http alone: GET answers JSON, POST what `answer` sends. */
function serveBare(answer: (body: string, request: IncomingMessage, response: ServerResponse) => void): void {
  createServer((request, response) => {
    if (request.method === 'GET') return send(response, { ok: true })
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => answer(body, request, response))
  }).listen(Number(port), '127.0.0.1')
}

const bare = () => serveBare((body, _, response) => send(response, JSON.parse(body)))

const echo = () => new Hono().post('/', async (c) => c.json(await c.req.json()))

async function createMinter() {
  const { createJoinTokenMinter } = await built.joinToken()
  return createJoinTokenMinter({ key, secret }, Date.now)
}

const minted = (token: string) => ({ server_url: 'ws://127.0.0.1:7880', participant_token: token })

async function mint() {
  const mintJoinToken = await createMinter()
  return new Hono().post('/', async (c) => {
    const { room, identity } = await c.req.json<Wanted>()
    const { token } = await mintJoinToken({ room, identity, name: null })
    return c.json(minted(token))
  })
}

/** The access tokens of a store, while a service runs on it. */
async function openTokens() {
  const { openStore } = await built.store()
  const { readSigningKeys } = await built.keys()
  const { createAccessTokens } = await built.tokens()
  const { keys: keyStore, users, clock } = await openStore(databaseUrl, { keepsTime: false })
  return createAccessTokens({ keys: await readSigningKeys(keyStore, clock), users, publicUrl, clock })
}

/**
 * The least that each route takes: the rows that it must write, by prepared statements with all of their indexes, group
 * commit and fsync, and the tokens that it must sign, behind node:http alone. Without checks, rules, limits, log and metrics.
 */
async function least(): Promise<void> {
  const mintJoinToken = await createMinter()
  const { issueUserToken } = await openTokens()
  const { createHs256 } = await built.hs256()
  const { openSqlite } = await built.sqlite()
  const { takeOverWal } = await built.wal()
  const { createGroupCommit } = await built.groupCommit()
  const { raw } = openSqlite(databaseUrl)
  const wal = takeOverWal(raw)
  if (!wal) throw new Error('An in-memory database is not durable.')
  const { write } = createGroupCommit(raw, { wal })
  const { verify } = createHs256(secret)

  const addSession = raw.prepare(
    `insert into sessions (id, user_id, room, status, created_at, token_expires_at) values (?, ?, ?, 'pending', ?, ?)`,
  )
  const advance = raw
    .prepare(
      `update sessions set status = ?, last_seq = last_seq + 1, event_bytes = event_bytes + ?, version = version + 1
       where id = ? returning last_seq`,
    )
    .pluck()
  const addEvent = raw.prepare(
    'insert into events (session_id, seq, type, data, agent_id, created_at) values (?, ?, ?, ?, ?, ?)',
  )
  const addAudit = raw.prepare(
    `insert into audit_entries (session_id, minute, agent_id, route, outcome, count, first_at, last_at)
     values (?, ?, 'bench', 'POST /agent/progress', 'allowed', 1, ?, ?)
     on conflict do update set count = count + 1, last_at = excluded.last_at`,
  )
  const addWebhook = raw.prepare('insert into webhook_events (id, received_at) values (?, ?)')
  const savePresence = raw.prepare(
    `insert into presences (sid, session_id, room_sid, joined_at, seen_at, left_at) values (?, ?, ?, ?, ?, ?)
     on conflict do update set left_at = excluded.left_at`,
  )
  const findFamily = raw.prepare(
    `select f.id, f.user_id as userId from refresh_tokens t join refresh_families f on f.id = t.family_id where t.hash = ?`,
  )
  const useToken = raw.prepare('update refresh_tokens set used_at = ? where hash = ?')
  const addToken = raw.prepare(
    'insert into refresh_tokens (hash, family_id, created_at, expires_at) values (?, ?, ?, ?)',
  )

  async function token(body: string) {
    const { identity } = JSON.parse(body)
    const now = Date.now()
    const unique = randomBytes(16).toString('hex')
    const id = `sess_${now.toString(16).padStart(12, '0')}${unique}`
    const room = `room_${id.slice(5)}`
    const { token } = mintJoinToken({ room, identity, name: null, attributes: { userId: identity, sessionId: id } })
    await write(() => addSession.run(id, identity, room, now, now + 900_000))
    return { ...minted(token), session_id: id }
  }

  function store(sessionId: string, status: string, type: string, data: object, agent: string | null, now: number) {
    const text = JSON.stringify(data)
    const seq = advance.get(status, text.length, sessionId)
    addEvent.run(sessionId, seq, type, text, agent, now)
    return seq
  }

  async function progress(body: string) {
    const { userId, sessionId, data } = JSON.parse(body)
    const now = Date.now()
    const seq = await write(() => {
      addAudit.run(sessionId, Math.floor(now / 60_000), now, now)
      return store(sessionId, 'live', 'progress', data, 'bench', now)
    })
    return { userId, sessionId, seq, data }
  }

  async function webhook(body: string, authorization: string) {
    if (verify(authorization)?.sha256 !== hash('sha256', body, 'base64')) throw new Error('The signature is wrong.')
    const { id, event, participant, room } = JSON.parse(body)
    const { sessionId } = participant.attributes
    const now = Date.now()
    const isLeft = event === 'participant_left'
    const status = isLeft ? 'disconnected' : 'live'
    await write(() => {
      addWebhook.run(id, now)
      savePresence.run(participant.sid, sessionId, room.sid, now, now, isLeft ? now : null)
      store(sessionId, status, 'session.status', { status }, null, now)
    })
    return { received: true }
  }

  async function refresh(body: string) {
    const used = hash('sha256', JSON.parse(body).refresh_token)
    const next = randomBytes(32).toString('base64url')
    const now = Date.now()
    const { id, userId } = await write(() => {
      const family = findFamily.get(used) as { id: string; userId: string }
      useToken.run(now, used)
      addToken.run(hash('sha256', next), family.id, now, now + 900_000)
      return family
    })
    return { access_token: await issueUserToken({ userId, signInId: id }), refresh_token: next, user: { id: userId } }
  }

  const routes: Record<string, (body: string, authorization: string) => Promise<object>> = {
    ...{ '/token': token, '/agent/progress': progress, '/livekit/webhook': webhook, '/auth/refresh': refresh },
  }
  serveBare(async (body, { url = '', headers }, response) => {
    send(response, (await routes[url]?.(body, headers.authorization ?? '')) ?? {})
  })
}

/** Verifies the access token, with the store of a service that runs, and stores nothing. */
async function mintVerified() {
  const tokens = await openTokens()
  const mintJoinToken = await createMinter()
  return new Hono().post('/', async (c) => {
    const { userId } = await tokens.verifyUserToken(c.req.header('Authorization')?.slice('Bearer '.length) ?? '')
    const { room } = await c.req.json<Wanted>()
    const { token } = await mintJoinToken({ room, identity: userId, name: null })
    return c.json(minted(token), 201)
  })
}

const APPS: Record<string, () => Hono | Promise<Hono>> = { hono: echo, mint, verified: mintVerified }

if (name === 'bare') bare()
else if (name === 'least') await least()
else {
  const app = await APPS[name]?.()
  if (!app) throw new Error(`No small server is named ${name}.`)
  serve({ fetch: app.fetch, port: Number(port), hostname: '127.0.0.1' })
}
