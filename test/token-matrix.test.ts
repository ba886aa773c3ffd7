import { inspectRoutes } from 'hono/dev'
import { describe, expect, test } from 'vitest'
import { SCOPES } from '../src/auth/scopes.ts'
import { basic, GRANT, requestToken } from './agent-client.ts'
import { scene } from './scene.ts'
import { webhookEvent, webhookToken } from './sfu.ts'
import { makeApp, post } from './support.ts'
import { workerToken } from './worker-scene.ts'

/** Every kind of credential; `webhook` is signed for the body that is sent. */
const KINDS = [
  'user access',
  'user refresh',
  'agent access',
  'agent secret',
  'worker',
  'LiveKit join',
  'webhook',
] as const
type Kind = (typeof KINDS)[number]

const CALL = 'POST /sessions/:id/call'

/** Routes that take no credential at all, or make the first one. */
const OPEN = /^(GET (\/openapi\.json|\/docs|\/health.*|\/\.well-known\/.*)|POST \/auth\/(register|login|guest|logout))$/

const { app } = await makeApp()
const routes = [
  ...new Set(
    inspectRoutes(app)
      .filter(({ method, isMiddleware }) => method !== 'ALL' || !isMiddleware)
      .map(({ method, path }) => `${method} ${path}`),
  ),
].filter((route) => !OPEN.test(route))

/** The diagonal; with a second entry where an agent may come as well (scope rooms:join). */
function takes(route: string): Kind[] {
  switch (route) {
    case 'POST /auth/refresh':
      return ['user refresh']
    case 'GET /agent':
      return ['worker']
    case 'POST /agent/token':
      return ['agent secret']
    case 'POST /livekit/webhook':
      return ['webhook']
    case 'POST /token':
      return ['user access', 'agent access']
    default:
      return route.includes(' /agent/') || route === CALL ? ['agent access'] : ['user access']
  }
}

/** One of each kind, all of them good, and the request of a route that lacks nothing but one. */
async function requester() {
  const s = await scene()
  const agent = await s.newAgent('tutor', SCOPES)
  const { user, pair, room, joinToken, leg } = await s.present()
  const event = JSON.stringify(webhookEvent('participant_joined', leg))
  const tokens: Record<Kind, (body: string) => string | Promise<string>> = {
    'user access': () => user.bearer,
    'user refresh': () => user.refreshToken,
    'agent access': () => agent.bearer,
    'agent secret': () => agent.secret,
    worker: () => workerToken(agent.id, agent.secret),
    'LiveKit join': () => joinToken,
    webhook: (body) => webhookToken(body, { ...s.secrets.webhook, at: s.clock.now() }),
  }

  /** Shows it as the route asks for it: in the header, in the body, or as the secret of a client. */
  async function ask(route: string, kind: Kind): Promise<Response> {
    const [method = '', path = ''] = route.split(' ')
    const isGet = method === 'GET'
    const isAgents = path.startsWith('/agent/')
    const bodies: Record<string, object> = {
      '/token': { room },
      '/rooms': {},
      '/agent/progress': { ...pair, data: {} },
      '/sessions/:id/call': { userId: pair.userId, to: '+4930123456' },
    }
    const body = route === 'POST /livekit/webhook' ? event : JSON.stringify(bodies[path] ?? pair)
    const token = await tokens[kind](body)
    if (route === 'POST /auth/refresh') return post(s.app, path, { refresh_token: token })
    if (route === 'POST /agent/token') return requestToken(s.app, GRANT, basic(agent.id, token))
    const query = isAgents && isGet ? `?${new URLSearchParams({ ...pair })}` : ''
    return s.app.request(path.replace(/:\w+/g, pair.sessionId) + query, {
      method,
      headers: {
        'Content-Type': 'application/json',
        Authorization: route === 'POST /livekit/webhook' ? token : `Bearer ${token}`,
      },
      ...(isGet ? {} : { body }),
    })
  }
  return ask
}

test('every kind of token is accepted by some route of the matrix', () => {
  expect(new Set(routes.flatMap(takes))).toEqual(new Set(KINDS.filter((kind) => kind !== 'LiveKit join')))
  expect(routes.length).toBeGreaterThanOrEqual(14)
})

describe.each(routes)('%s', (route) => {
  test.each(KINDS.map((kind) => [takes(route).includes(kind) ? 'takes' : 'refuses', kind] as const))(
    '%s a token of the kind %s (A07, A39)',
    async (verb, kind) => {
      const ask = await requester()
      const { status, headers } = await ask(route, kind)
      expect(headers.get('Cache-Control')).toBe('no-store')
      // A guest has no password to change.
      if (verb === 'takes' && route === 'POST /auth/password') expect(status).toBe(422)
      // Taken, but not a WebSocket.
      else if (verb === 'takes' && route === 'GET /agent') expect(status).toBe(426)
      // Without a trunk nothing can be called.
      else if (verb === 'takes' && route === CALL) expect(status).toBe(403)
      else if (verb === 'takes') expect(status).toBeLessThan(300)
      // No refresh token is as long as a JWT.
      else expect(route === 'POST /auth/refresh' ? [401, 422] : [401]).toContain(status)
    },
  )
})
