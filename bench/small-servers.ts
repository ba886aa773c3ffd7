// What the service is compared with: the HTTP below it, and parts of its own work. Started by servers.ts:
// node --import tsx small-servers.ts <name> <port> <LiveKit key> <LiveKit secret> [<DATABASE_URL> <PUBLIC_URL>]
import { randomBytes } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
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
function readJson<T>(answer: (value: T, response: ServerResponse) => void): void {
  createServer((request, response) => {
    if (request.method === 'GET') return send(response, { ok: true })
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => answer(JSON.parse(body), response))
  }).listen(Number(port), '127.0.0.1')
}

const bare = () => readJson((value, response) => send(response, value))

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

/**
 * The least that a durable mint takes: a join token, one session by a prepared statement with all of its indexes, group
 * commit and fsync, behind node:http alone. Without sign-in, rules, limits, log and metrics.
 */
async function least(): Promise<void> {
  const mintJoinToken = await createMinter()
  const { openSqlite } = await built.sqlite()
  const { takeOverWal } = await built.wal()
  const { createGroupCommit } = await built.groupCommit()
  const { raw } = openSqlite(databaseUrl)
  const wal = takeOverWal(raw)
  if (!wal) throw new Error('An in-memory database is not durable.')
  const { write } = createGroupCommit(raw, { wal })
  const insert = raw.prepare(
    `insert into sessions (id, user_id, room, status, created_at, token_expires_at) values (?, ?, ?, 'pending', ?, ?)`,
  )
  readJson(async ({ identity }: Wanted, response) => {
    const now = Date.now()
    const unique = randomBytes(16).toString('hex')
    const id = `sess_${now.toString(16).padStart(12, '0')}${unique}`
    const room = `room_${id.slice(5)}`
    const { token } = mintJoinToken({ room, identity, name: null, attributes: { userId: identity, sessionId: id } })
    await write(() => insert.run(id, identity, room, now, now + 900_000))
    send(response, { ...minted(token), session_id: id })
  })
}

/** Verifies the access token, with the store of a service that runs, and stores nothing. */
async function mintVerified() {
  const { openStore } = await built.store()
  const { readSigningKeys } = await built.keys()
  const { createAccessTokens } = await built.tokens()
  const { keys: keyStore, users, clock } = await openStore(databaseUrl, { keepsTime: false })
  const tokens = createAccessTokens({ keys: await readSigningKeys(keyStore, clock), users, publicUrl, clock })
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
