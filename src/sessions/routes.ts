import { createRoute, z } from '@hono/zod-openapi'
import type { MiddlewareHandler } from 'hono'
import { accepts } from 'hono/accepts'
import { type UserEnv, userGuard, userGuardRefusals } from '../auth/guards.ts'
import type { AccessTokens } from '../auth/tokens.ts'
import { AppError } from '../errors.ts'
import { problems } from '../http/problem.ts'
import { createRouter, jsonContent } from '../http/router.ts'
import type { AuditStore } from '../store/audit.ts'
import type { EventStore, Session, SessionStore } from '../store/sessions.ts'
import type { EventStreams } from './event-stream.ts'
import {
  AuditEntryResponse,
  auditEntryResponse,
  EventResponse,
  eventResponse,
  SessionResponse,
  sessionResponse,
} from './json.ts'
import type { Sessions } from './sessions.ts'

interface SessionRoutesDeps {
  tokens: AccessTokens
  limitReads: MiddlewareHandler<UserEnv>
  sessions: Sessions
  store: { sessions: SessionStore; events: EventStore; audit: AuditStore }
  streams: EventStreams
}

const Params = z.object({ id: z.string().min(1).max(128).describe('The id of one of the user’s sessions.') })
const page = (fallback: number, max: number) => z.coerce.number().int().min(1).max(max).default(fallback)

const SessionPageResponse = z
  .object({
    sessions: z.array(SessionResponse).describe('Newest first.'),
    before: z.string().optional().describe('Send it as `before` to get the next page. Absent on the last page.'),
  })
  .openapi('SessionPage')

const EventPageResponse = z
  .object({
    events: z.array(EventResponse).describe('Oldest first, up to 256 KiB of data.'),
    after: z.number().int().describe('Send it as `after` to get the next events.'),
    hasMore: z.boolean().describe('Whether there are more events now.'),
  })
  .openapi('EventPage')

const AuditTrailResponse = z
  .object({ entries: z.array(AuditEntryResponse).describe('Newest first.') })
  .openapi('AuditTrail')

const LastEventId = z
  .string()
  .regex(/^\d{1,15}$/, 'is the id of an event: its seq')
  .transform(Number)
  .openapi({ type: 'integer', description: 'Where to resume; it wins over `after`.' })

const EventStreamText = z.string().openapi({
  description: [
    'Server-Sent Events: `id` is the `seq`, `data` a SessionEvent in JSON. Comments keep the connection alive. Before the',
    'server closes it sends an event `close` without id, its data `{"reason": "ended" | "token_expired" | "signed_out" |',
    '"slow_reader" | "shutting_down"}`; after any but `ended` and `signed_out`, resume with `Last-Event-ID`.',
  ].join(' '),
  example:
    'id: 1\ndata: {"seq":1,"type":"session.status","data":{"status":"live"},"createdAt":"2026-01-01T00:00:00.000Z"}\n\n',
})

const JSON_PAGE = 'application/json'
const EVENT_STREAM = 'text/event-stream'
const ANSWERS = { header: 'Accept' as const, supports: [JSON_PAGE, EVENT_STREAM], default: JSON_PAGE }
const STREAM_HEADERS = {
  'Content-Type': EVENT_STREAM,
  // Otherwise nginx would buffer the events.
  'X-Accel-Buffering': 'no',
}

const security = [{ userToken: [] }]
const refusals = [...userGuardRefusals, 'validation_failed', 'rate_limited'] as const

/** A user's own sessions, and what happened in them. */
export function sessionRoutes({ tokens, limitReads, sessions, store, streams }: SessionRoutesDeps) {
  const router = createRouter<UserEnv>()
  router.use('/sessions', userGuard(tokens))
  router.use('/sessions/*', userGuard(tokens))
  for (const below of ['', '/:id', '/:id/events', '/:id/audit']) router.use(`/sessions${below}`, limitReads)

  /** Another user's session gets the same answer as one that does not exist. */
  async function own(id: string, userId: string): Promise<Session> {
    const session = await store.sessions.find(id)
    if (session?.userId !== userId) throw notFound()
    return session
  }

  return router
    .openapi(
      createRoute({
        method: 'get',
        path: '/sessions',
        operationId: 'listSessions',
        tags: ['Sessions'],
        summary: 'The user’s sessions, newest first',
        security,
        request: {
          query: z.object({
            limit: page(50, 100).describe('Sessions at most.'),
            before: z.string().max(128).optional().describe('Only sessions older than the one with this id.'),
          }),
        },
        responses: {
          200: { description: 'A page.', content: jsonContent(SessionPageResponse) },
          ...problems(...refusals),
        },
      }),
      async (c) => {
        const { limit, before } = c.req.valid('query')
        const found = await store.sessions.listByUser(c.var.user.userId, limit + 1, before)
        const shown = found.slice(0, limit)
        const last = found.length > limit ? shown.at(-1) : undefined
        return c.json({ sessions: shown.map(sessionResponse), ...(last ? { before: last.id } : {}) }, 200)
      },
    )
    .openapi(
      createRoute({
        method: 'get',
        path: '/sessions/{id}',
        operationId: 'getSession',
        tags: ['Sessions'],
        summary: 'One of the user’s sessions',
        security,
        request: { params: Params },
        responses: {
          200: { description: 'The session.', content: jsonContent(SessionResponse) },
          ...problems(...refusals, 'session_not_found'),
        },
      }),
      async (c) => c.json(sessionResponse(await own(c.req.valid('param').id, c.var.user.userId)), 200),
    )
    .openapi(
      createRoute({
        method: 'delete',
        path: '/sessions/{id}',
        operationId: 'endSession',
        tags: ['Sessions'],
        summary: 'End it and remove its participant from LiveKit',
        security,
        request: { params: Params },
        responses: {
          200: { description: 'Ended, by this call or before.', content: jsonContent(SessionResponse) },
          ...problems(...refusals, 'session_not_found'),
        },
      }),
      async (c) => {
        const { id } = await own(c.req.valid('param').id, c.var.user.userId)
        const ended = await sessions.end(id, 'user')
        if (!ended) throw notFound()
        return c.json(sessionResponse(ended), 200)
      },
    )
    .openapi(
      createRoute({
        method: 'get',
        path: '/sessions/{id}/events',
        operationId: 'listSessionEvents',
        tags: ['Sessions'],
        summary: 'What happened in it, oldest first',
        security,
        request: {
          params: Params,
          query: z.object({
            after: z.coerce.number().int().min(0).default(0).describe('Only events with a higher `seq`.'),
            limit: page(100, 1000).describe('Events at most; a stream has no limit.'),
          }),
          headers: z.object({ 'last-event-id': LastEventId.optional() }),
        },
        responses: {
          200: {
            description: 'A page; or a stream of past and new events when Accept prefers text/event-stream.',
            content: { ...jsonContent(EventPageResponse), 'text/event-stream': { schema: EventStreamText } },
          },
          ...problems(...refusals, 'session_not_found', 'too_many_streams', 'busy'),
        },
      }),
      async (c) => {
        const token = c.var.user
        const { id } = await own(c.req.valid('param').id, token.userId)
        const { after, limit } = c.req.valid('query')
        c.header('Vary', 'Accept', { append: true })
        if (accepts(c, ANSWERS) === EVENT_STREAM) {
          const { 'last-event-id': lastEventId } = c.req.valid('header')
          // A HEAD response has no body, so a stream would never be read.
          if (c.req.method === 'HEAD') return c.body(null, 200, STREAM_HEADERS)
          const body = streams.open({ sessionId: id, after: lastEventId ?? after, token }, c.env?.outgoing)
          return body ? c.body(body, 200, STREAM_HEADERS) : c.body(null, 200, STREAM_HEADERS)
        }
        const shown = await store.events.page(id, after, limit)
        const cursor = shown.at(-1)?.seq ?? after
        const hasMore = shown.length > 0 && (await store.events.hasMore(id, cursor))
        return c.json({ events: shown.map(eventResponse), after: cursor, hasMore }, 200)
      },
    )
    .openapi(
      createRoute({
        method: 'get',
        path: '/sessions/{id}/audit',
        operationId: 'getAuditTrail',
        tags: ['Sessions'],
        summary: 'Which agents acted in it on your behalf, and what was refused; newest first',
        security,
        request: { params: Params, query: z.object({ limit: page(100, 1000).describe('Entries at most.') }) },
        responses: {
          200: { description: 'The newest entries.', content: jsonContent(AuditTrailResponse) },
          ...problems(...refusals, 'session_not_found'),
        },
      }),
      async (c) => {
        const { id } = await own(c.req.valid('param').id, c.var.user.userId)
        const entries = await store.audit.ofSession(id, c.req.valid('query').limit)
        return c.json({ entries: entries.map(auditEntryResponse) }, 200)
      },
    )
}

const notFound = () => new AppError('session_not_found', 'You have no such session.')
