// The servers that Behalf is measured against, and its own parts without the rest: node --import tsx small-servers.ts <name> <port> …
import { createServer } from 'node:http'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'

const [, , name, port, key = '', secret = '', databaseUrl = '', publicUrl = ''] = process.argv

/** The built module, with the types of its source. */
const built = (path: string) => import(new URL(`../dist/${path}.js`, import.meta.url).href)

interface Wanted {
  room: string
  identity: string
}

/** Bare node:http: GET answers JSON, POST echoes it. */
function bare(): void {
  const send = (response: import('node:http').ServerResponse, value: unknown) => {
    const text = JSON.stringify(value)
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) }).end(text)
  }
  createServer((request, response) => {
    if (request.method === 'GET') return send(response, { ok: true })
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => send(response, JSON.parse(body)))
  }).listen(Number(port), '127.0.0.1')
}

const echo = () => new Hono().post('/', async (c) => c.json(await c.req.json()))

async function minter() {
  const { createJoinTokenMinter } = (await built('livekit/join-token')) as typeof import('../src/livekit/join-token.ts')
  return createJoinTokenMinter({ key, secret }, Date.now)
}

/** W1: room and identity in, join token out. */
async function bareMint() {
  const mint = await minter()
  return new Hono().post('/', async (c) => {
    const { room, identity } = await c.req.json<Wanted>()
    const { token } = await mint({ room, identity, name: null })
    return c.json({ server_url: 'ws://127.0.0.1:7880', participant_token: token })
  })
}

/** W2 without the row: the access token is verified, against the store of a service, and nothing is stored. */
async function verifiedMint() {
  const { openStore } = (await built('store/store')) as typeof import('../src/store/store.ts')
  const { readSigningKeys } = (await built('auth/keys')) as typeof import('../src/auth/keys.ts')
  const { createAccessTokens } = (await built('auth/tokens')) as typeof import('../src/auth/tokens.ts')
  const { keys: keyStore, users, clock } = await openStore(databaseUrl, { keepsTime: false })
  const keys = await readSigningKeys(keyStore, clock)
  const tokens = createAccessTokens({ keys, users, publicUrl, clock })
  const mint = await minter()
  return new Hono().post('/', async (c) => {
    const { userId } = await tokens.verifyUserToken(c.req.header('Authorization')?.slice('Bearer '.length) ?? '')
    const { room } = await c.req.json<Wanted>()
    const { token } = await mint({ room, identity: userId, name: null })
    return c.json({ server_url: 'ws://127.0.0.1:7880', participant_token: token }, 201)
  })
}

const APPS: Record<string, () => Hono | Promise<Hono>> = { hono: echo, mint: bareMint, verified: verifiedMint }

if (name === 'bare') bare()
else {
  const app = await APPS[name ?? '']?.()
  if (!app) throw new Error(`No small server is named ${name}.`)
  serve({ fetch: app.fetch, port: Number(port), hostname: '127.0.0.1' })
}
