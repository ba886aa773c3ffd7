import { createHash } from 'node:crypto'
import { createRoute, z } from '@hono/zod-openapi'
import type { Scope } from '../agents/agent.ts'
import type { UserStore } from '../auth/store.ts'
import { AppError } from '../errors.ts'
import { problems } from '../http/problem.ts'
import { createRouter } from '../http/router.ts'
import type { EventStore, IdempotencyKey } from '../sessions/event-store.ts'
import type { FollowUp } from '../sessions/follow-up.ts'
import { eventJson, SessionJson, sessionJson } from '../sessions/json.ts'
import type { Admission } from '../sessions/lifecycle.ts'
import type { SessionStore } from '../sessions/store.ts'
import { type CallbackEnv, type CallbackGuard, notLive, Pair } from './guard.ts'
import { CONTEXT_EVENTS, Context, End, IdempotencyKeyHeader, Progress, Stored } from './schemas.ts'

export interface CallbackRoutesDeps {
  guard: CallbackGuard
  users: UserStore
  sessions: SessionStore
  events: EventStore
  followUp: FollowUp
}

const json = <T extends z.ZodType>(schema: T) => ({ 'application/json': { schema } })
const refusals = [
  'missing_token',
  'invalid_token',
  'invalid_request',
  'insufficient_scope',
  'agent_disabled',
  'rate_limited',
  'validation_failed',
  'session_mismatch',
  'session_not_live',
  'session_ended',
  'liveness_unknown',
  'store_unavailable',
] as const
const bodyRefusals = ['malformed_json', 'unsupported_media_type', 'body_too_large'] as const
const agentWith = (scope: Scope) => [{ agentToken: [scope] }]

/** What an agent may do on behalf of the user who is in the room. */
export function callbackRoutes({ guard, users, sessions, events, followUp }: CallbackRoutesDeps) {
  const router = createRouter<CallbackEnv>()
  return router
    .openapi(
      createRoute({
        method: 'post',
        path: '/agent/progress',
        operationId: 'reportProgress',
        tags: ['Agents'],
        summary: 'Report progress on behalf of the user',
        security: agentWith('progress:write'),
        middleware: guard({
          scope: 'progress:write',
          input: Progress,
          mayWrapUp: true,
          async replay(c, session) {
            const idempotency = idempotencyKey(c.req.header('Idempotency-Key'), await c.req.text())
            const replay = idempotency && (await events.findReplay(c.var.agent.id, session.id, idempotency))
            if (replay?.outcome === 'key_reused') throw keyReused()
            return replay ? c.json(stored(session.id, replay.event), 201) : undefined
          },
        }),
        request: {
          headers: z.object({ 'idempotency-key': IdempotencyKeyHeader.optional() }),
          body: { required: true, content: json(Progress) },
        },
        responses: {
          201: { description: 'Stored; the same answer for a repeated Idempotency-Key.', content: json(Stored) },
          ...problems(...refusals, ...bodyRefusals, 'invalid_idempotency_key', 'idempotency_key_reused'),
        },
      }),
      async (c) => {
        const { type, data } = c.req.valid('json')
        const { agent, session, admission } = c.var
        const idempotency = idempotencyKey(c.req.header('Idempotency-Key'), await c.req.text())
        const event = { sessionId: session.id, agentId: agent.id, type, data, idempotency }
        let appended = await events.append(event, admission)
        if (appended.outcome === 'stale') {
          await c.var.confirm()
          appended = await events.append(event, admission)
        }
        switch (appended.outcome) {
          case 'stored':
          case 'replayed':
            return c.json(stored(session.id, appended.event), 201)
          case 'key_reused':
            throw keyReused()
          default:
            throw notAdmitted(appended.outcome)
        }
      },
    )
    .openapi(
      createRoute({
        method: 'get',
        path: '/agent/context',
        operationId: 'getContext',
        tags: ['Agents'],
        summary: 'Whom the agent is talking to, and what happened so far',
        security: agentWith('context:read'),
        middleware: guard({ scope: 'context:read', input: Pair }),
        request: { query: Pair },
        responses: { 200: { description: 'The context.', content: json(Context) }, ...problems(...refusals) },
      }),
      async (c) => {
        const { id, userId } = c.var.session
        const [user, session, last] = await Promise.all([
          users.findUser(userId),
          sessions.find(id),
          events.last(id, CONTEXT_EVENTS),
        ])
        if (!user || !session) throw new AppError('session_mismatch', 'There is no session of that id for that user.')
        const { email, name } = user
        const profile = { id: userId, ...(email ? { email } : {}), ...(name ? { name } : {}), guest: email === null }
        const cursor = last.at(-1)?.seq ?? 0
        return c.json({ user: profile, session: sessionJson(session), events: last.map(eventJson), cursor }, 200)
      },
    )
    .openapi(
      createRoute({
        method: 'post',
        path: '/agent/session/end',
        operationId: 'endSessionAsAgent',
        tags: ['Agents'],
        summary: 'End the session and remove its participant',
        security: agentWith('session:end'),
        middleware: guard({ scope: 'session:end', input: End, mayWrapUp: true }),
        request: { body: { required: true, content: json(End) } },
        responses: {
          200: { description: 'Ended.', content: json(SessionJson) },
          ...problems(...refusals, ...bodyRefusals),
        },
      }),
      async (c) => {
        const { reason, result } = c.req.valid('json')
        const { agent, session, admission } = c.var
        const note = { agentId: agent.id, ...(reason ? { detail: reason } : {}), ...(result ? { result } : {}) }
        let change = await sessions.endAsAgent(session.id, note, admission)
        if (change === 'stale') {
          await c.var.confirm()
          change = await sessions.endAsAgent(session.id, note, admission)
        }
        if (typeof change === 'string') throw notAdmitted(change)
        followUp(change)
        return c.json(sessionJson(change.session), 200)
      },
    )
}

/** Why a callback that the guard let through was not written after all. */
const notAdmitted = (admission: Exclude<Admission, 'admitted'>) =>
  notLive(({ stale: 'unknown', not_live: 'absent', ended: 'ended' } as const)[admission])

const stored = (sessionId: string, { seq, createdAt }: { seq: number; createdAt: number }) => ({
  sessionId,
  seq,
  createdAt: new Date(createdAt).toISOString(),
})

/** @throws AppError `invalid_idempotency_key` */
function idempotencyKey(key: string | undefined, body: string): IdempotencyKey | null {
  if (key === undefined) return null
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new AppError('invalid_idempotency_key', 'An Idempotency-Key is 1 to 255 visible ASCII characters.')
  }
  return { key, payloadHash: createHash('sha256').update(body).digest('hex') }
}

const keyReused = () =>
  new AppError('idempotency_key_reused', 'This Idempotency-Key was used for another body in this session.')
