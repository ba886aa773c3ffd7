import { inspectRoutes } from 'hono/dev'
import { decodeJwt } from 'jose'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { SCOPES } from '../src/auth/scopes.ts'
import { agentClaims, FORGERIES, type Forgery, sign, userClaims } from './forged.ts'
import { refusal, scene } from './scene.ts'
import { makeApp, post } from './support.ts'

/** Public routes. A route that is not here has to refuse every caller without its own kind of token. */
const PUBLIC = [
  'GET /openapi.json',
  'GET /docs',
  'POST /auth/register',
  'POST /auth/login',
  'POST /auth/guest',
  'POST /auth/refresh',
  'POST /auth/logout',
  'GET /.well-known/jwks.json',
  'GET /.well-known/oauth-authorization-server',
  'GET /agent',
  'POST /agent/token',
  'POST /livekit/webhook',
  'GET /health',
  'GET /health/live',
  'GET /health/ready',
]

/** Takes an agent's token as well, with the scope rooms:join. */
const BOTH = 'POST /token'

const { app } = await makeApp()
// A handler under `app.all` counts as a route; what runs before handlers does not.
const routes = new Set(
  inspectRoutes(app)
    .filter(({ method, isMiddleware }) => method !== 'ALL' || !isMiddleware)
    .map(({ method, path }) => `${method} ${path}`),
)
const guarded = [...routes].filter((route) => !PUBLIC.includes(route))
const CALL = 'POST /sessions/:id/call'
const isAgents = (route: string) => route.includes(' /agent/') || route === CALL
const agentRoutes = guarded.filter(isAgents)
const userRoutes = guarded.filter((route) => !isAgents(route))

/** A scene, and a request for each route that holds everything but the token. */
async function requester() {
  const s = await scene()
  const agent = await s.newAgent('tutor', SCOPES)
  const present = await s.present()
  const { pair, user } = present
  async function request(route: string, authorization?: string) {
    const [method = '', path = ''] = route.split(' ')
    const isGet = method === 'GET'
    const query = isAgents(route) && isGet ? `?${new URLSearchParams({ ...pair })}` : ''
    const body = route === CALL ? { userId: pair.userId, to: '+4930123456' } : isAgents(route) ? pair : {}
    const sent = path === '/agent/progress' ? { ...pair, data: {} } : body
    return s.app.request(path.replace(/:\w+/g, pair.sessionId) + query, {
      method,
      headers: { 'Content-Type': 'application/json', ...(authorization ? { Authorization: authorization } : {}) },
      ...(isGet ? {} : { body: JSON.stringify(sent) }),
    })
  }
  /** The claims that this route would take. */
  const rightClaims = (route: string) => (isAgents(route) ? agentClaims(s, agent.id) : userClaims(s, user))
  return { s, agent, ...present, request, rightClaims }
}

const codes = { missing: { status: 401, code: 'missing_token' }, invalid: { status: 401, code: 'invalid_token' } }

test('every route is classified as public, for users or for agents', () => {
  expect([...routes].filter((route) => PUBLIC.includes(route)).sort()).toEqual([...PUBLIC].sort())
  const below = ['GET /agent/context', 'POST /agent/progress', 'POST /agent/session/end']
  expect(agentRoutes.sort()).toEqual([...below, CALL])
  expect(userRoutes).toEqual(expect.arrayContaining([BOTH, 'GET /auth/me', 'POST /rooms', 'DELETE /sessions/:id']))
})

describe.each(guarded)('%s', (route) => {
  test('lets its own kind of token through', async () => {
    const { s, request, rightClaims } = await requester()
    const answer = await request(route, `Bearer ${await sign(s, rightClaims(route))}`)
    // A guest has no password to change.
    if (route === 'POST /auth/password') expect(answer.status).toBe(422)
    else if (route === CALL) expect(await refusal(answer)).toEqual({ status: 403, code: 'calls_disabled' })
    else expect(answer.status).toBeLessThan(300)
  })

  test('refuses a caller without a token (A27)', async () => {
    const { request } = await requester()
    const answer = await request(route)
    expect(answer.headers.get('WWW-Authenticate')).toBe('Bearer')
    expect(await refusal(answer)).toEqual(codes.missing)
    expect(await refusal(request(route, 'Basic dHV0b3I6c2VjcmV0'))).toEqual(codes.missing)
  })

  test.each(Object.keys(FORGERIES) as Forgery[])('refuses a token %s (A07)', async (name) => {
    const { s, request, rightClaims } = await requester()
    // Each forgery reuses a valid payload, so either kind of token will do.
    const token = await FORGERIES[name](s, rightClaims(route))
    const answer = await request(route, `Bearer ${token}`)
    expect(answer.headers.get('WWW-Authenticate')).toBe('Bearer error="invalid_token"')
    expect(await refusal(answer)).toEqual(codes.invalid)
  })
})

describe(BOTH, () => {
  test('an access token has its own expiry in the answer and contains no e-mail address', async () => {
    const { s, user, room, agent } = await requester()
    const account = { email: 'lovelace@example.com', password: 'correct horse' }
    const ada = SignedInResponse.parse(await (await post(s.app, '/auth/register', account, user.bearer)).json())
    const Answer = z.object({ participant_token: z.string(), token: z.string(), expires_at: z.number() })
    const asked = [
      post(s.app, '/token', {}, ada.access_token),
      post(s.app, '/token', { room_config: { agents: [{ agent_name: agent.id }] } }, ada.access_token),
      post(s.app, '/token', { room }, agent.bearer),
    ]
    for (const answer of await Promise.all(asked)) {
      expect(answer.status).toBe(201)
      const { participant_token, token, expires_at } = Answer.parse(await answer.json())
      expect(token).toBe(participant_token)
      expect(decodeJwt(token).exp).toBe(expires_at)
      expect(expires_at).toBe(Math.floor(s.clock.now() / 1000) + 15 * 60)
      expect(JSON.stringify(decodeJwt(token))).not.toMatch(/@|lovelace|example/)
    }
  })
})
