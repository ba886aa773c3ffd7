import { createRoute, z } from '@hono/zod-openapi'
import { type AgentEnv, agentGuard, agentGuardRefusals } from '../auth/guards.ts'
import type { AccessTokens } from '../auth/tokens.ts'
import { AppError } from '../errors.ts'
import { jsonBody, jsonBodyRefusals, limitBody, MAX_BODY_BYTES } from '../http/body.ts'
import { problems } from '../http/problem.ts'
import { limitRate, type RateLimits } from '../http/rate-limit.ts'
import { createRouter, jsonContent } from '../http/router.ts'
import type { CallRefusal, PlaceCall } from '../sessions/calls.ts'
import { notLive } from '../sessions/liveness.ts'
import type { Store } from '../store/store.ts'
import {
  codeOf,
  IDEMPOTENCY_KEY_HEADER,
  idempotencyKey,
  KEY_REFUSALS,
  keyReused,
  mismatch,
  Pair,
} from './agent-route.ts'
import { CallRequest, StoredResponse, stored } from './schemas.ts'

interface CallRoutesDeps {
  placeCall: PlaceCall
  tokens: AccessTokens
  store: Pick<Store, 'clock' | 'agents' | 'sessions' | 'audit'>
  limits: Pick<RateLimits, 'agentRequests' | 'agentCalls'>
}

/** Seconds after which an unanswered call may be over. */
const RETRY_SECONDS = 30

const REFUSED: Record<CallRefusal | 'key_reused', () => AppError> = {
  key_reused: keyReused,
  ended: () => notLive('ended'),
  not_sessions_agent: () =>
    new AppError('not_sessions_agent', 'The session names another agent or none, and this one lacks sessions:any.'),
  user_joined: () => new AppError('user_joined', 'The user has joined without a phone, or is in the room.'),
  call_in_progress: () =>
    new AppError('call_in_progress', 'The user’s phone rings, or the user is on it.', {
      retryAfterSeconds: RETRY_SECONDS,
    }),
}

/** Calls the user of a session on the phone. Unlike `agentRoute` it needs a user who is not in the room. */
export function callRoutes({ placeCall, tokens, store, limits }: CallRoutesDeps) {
  const { clock, agents, sessions, audit } = store
  return createRouter<AgentEnv>().openapi(
    createRoute({
      method: 'post',
      path: '/sessions/{id}/call',
      operationId: 'callUser',
      tags: ['Agents'],
      summary: 'Call the user of a session on the phone',
      security: [{ agentToken: ['calls:place'] }],
      parameters: [IDEMPOTENCY_KEY_HEADER],
      middleware: [
        agentGuard(tokens, agents, 'calls:place'),
        limitRate<AgentEnv>(limits.agentRequests, (c) => c.var.agent.id),
        limitRate<AgentEnv>(limits.agentCalls, (c) => c.var.agent.id),
        limitBody(MAX_BODY_BYTES),
        jsonBody,
      ] as const,
      request: {
        params: z.object({ id: Pair.shape.sessionId }),
        body: { required: true, content: jsonContent(CallRequest) },
      },
      responses: {
        201: {
          description:
            'The phone rings; the event `session.call` is stored. The same answer for a repeated Idempotency-Key.',
          content: jsonContent(StoredResponse),
        },
        ...problems(
          ...agentGuardRefusals,
          ...jsonBodyRefusals,
          ...KEY_REFUSALS,
          'rate_limited',
          'session_mismatch',
          'not_sessions_agent',
          'session_ended',
          'user_joined',
          'call_in_progress',
          'calls_disabled',
          'call_failed',
          'livekit_unavailable',
        ),
      },
    }),
    async (c) => {
      const { agent } = c.var
      const { id } = c.req.valid('param')
      const { userId, to } = c.req.valid('json')
      const decided = (outcome: string, about: string | null = id) =>
        audit.record({
          sessionId: about,
          agentId: agent.id,
          route: 'POST /sessions/:id/call',
          outcome,
          at: clock.now(),
        })
      const session = await sessions.find(id)
      if (session?.userId !== userId) {
        await decided('session_mismatch', null)
        throw mismatch()
      }
      try {
        const placed = await placeCall(id, { caller: agent, to, key: await idempotencyKey(c) })
        if (typeof placed === 'string') throw REFUSED[placed]()
        await decided(placed.isReplay ? 'replayed' : 'allowed')
        return c.json(stored(session, placed.event), 201)
      } catch (error) {
        await decided(codeOf(error))
        throw error
      }
    },
  )
}
