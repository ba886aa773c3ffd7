import { createRoute, z } from '@hono/zod-openapi'
import { createMiddleware } from 'hono/factory'
import { agentGuardRefusals, authenticateAgent, authenticateUser } from '../auth/guards.ts'
import type { AccessTokens, UserToken } from '../auth/tokens.ts'
import { bearerToken } from '../http/bearer.ts'
import { jsonBody, jsonBodyRefusals, limitBody, MAX_BODY_BYTES } from '../http/body.ts'
import { problems } from '../http/problem.ts'
import { countRequest, type RateLimits } from '../http/rate-limit.ts'
import { type AppEnv, createRouter, jsonContent } from '../http/router.ts'
import type { Agent, AgentStore } from '../store/agents.ts'
import type { JoinTokens, Minted } from './mint.ts'
import { joinRequest } from './request.ts'
import { TokenRequest } from './schemas.ts'

interface TokenRoutesDeps {
  tokens: AccessTokens
  agents: AgentStore
  joinTokens: JoinTokens
  limits: Pick<RateLimits, 'userRequests' | 'agentRequests'>
  livekitUrl: string
}

interface TokenEnv extends AppEnv {
  Variables: AppEnv['Variables'] & { caller: UserToken | { agent: Agent } }
}

const TokenResponse = z
  .object({
    server_url: z.string().describe('The LiveKit server to connect to.'),
    participant_token: z.string().describe('The join token, a LiveKit JWT for this room and identity only.'),
    room_name: z.string().describe('The room that the token is for.'),
    participant_identity: z
      .string()
      .describe('The caller’s own id; of an agent that named none, its id, `#` and a random part.'),
    participant_name: z.string().optional().describe('The name in the room. Absent when there is none.'),
    session_id: z.string().optional().describe('The session that the token belongs to. Absent for an agent.'),
    expires_at: z
      .number()
      .int()
      .describe('The token’s `exp` in Unix seconds: the time until which it can be used to join.'),
    url: z.string().describe('The same as `server_url`.'),
    token: z.string().describe('The same as `participant_token`.'),
    room: z.string().describe('The same as `room_name`.'),
    identity: z.string().describe('The same as `participant_identity`.'),
  })
  .openapi('TokenResponse')

/** LiveKit's standard token endpoint, which also serves the token guide's dialect. */
export function tokenRoutes({ tokens, agents, joinTokens, limits, livekitUrl }: TokenRoutesDeps) {
  const caller = createMiddleware<TokenEnv>(async function tokenCaller(c, next) {
    const token = bearerToken(c)
    if (tokens.isForAgents(token)) {
      c.set('caller', { agent: await authenticateAgent(c, tokens, agents, token, 'rooms:join') })
    } else c.set('caller', await authenticateUser(c, tokens, token))
    await next()
  })
  const limit = createMiddleware<TokenEnv>(async function tokenLimit(c, next) {
    const { caller } = c.var
    const [counter, id] =
      'userId' in caller ? [limits.userRequests, caller.userId] : [limits.agentRequests, caller.agent.id]
    await countRequest(c, counter, id)
    await next()
  })
  const router = createRouter<TokenEnv>()
  router.use('/token', caller, limit, limitBody(MAX_BODY_BYTES), jsonBody)
  return router.openapi(
    createRoute({
      method: 'post',
      path: '/token',
      operationId: 'mintJoinToken',
      tags: ['Join tokens'],
      summary: 'A LiveKit join token, and the session it belongs to',
      security: [{ userToken: [] }, { agentToken: ['rooms:join'] }],
      request: { body: { required: false, content: jsonContent(TokenRequest) } },
      responses: {
        201: { description: 'Minted.', content: jsonContent(TokenResponse) },
        ...problems(
          ...agentGuardRefusals,
          ...jsonBodyRefusals,
          'identity_forbidden',
          'attribute_forbidden',
          'metadata_invalid',
          'metadata_forbidden',
          'metadata_too_large',
          'room_config_forbidden',
          'agent_not_registered',
          'room_required',
          'rate_limited',
          'room_forbidden',
          'room_not_found',
          'session_not_found',
          'session_ended',
          'session_not_live',
          'liveness_unknown',
          'too_many_rooms',
          'too_many_sessions',
          'livekit_unavailable',
        ),
      },
    }),
    async (c) => {
      const request = joinRequest(c.req.valid('json'))
      const { caller } = c.var
      const minted =
        'userId' in caller
          ? await joinTokens.forUser(caller, request)
          : await joinTokens.forAgent(caller.agent, request)
      return c.json(answer(minted, livekitUrl), 201)
    },
  )
}

function answer({ token, room, identity, name, sessionId, expiresAt }: Minted, url: string) {
  return {
    server_url: url,
    participant_token: token,
    room_name: room,
    participant_identity: identity,
    ...(name === null ? {} : { participant_name: name }),
    ...(sessionId === null ? {} : { session_id: sessionId }),
    expires_at: expiresAt,
    url,
    token,
    room,
    identity,
  }
}
