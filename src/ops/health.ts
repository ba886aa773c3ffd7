import { createRoute, z } from '@hono/zod-openapi'
import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import { problems } from '../http/problem.ts'
import { createRouter, jsonContent } from '../http/router.ts'
import { LIVEKIT_FAILURES, type LiveKit, LiveKitError, type LiveKitFailure } from '../livekit/livekit.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { SessionStore } from '../store/sessions.ts'

interface HealthDeps {
  sessions: SessionStore
  livekit: LiveKit
  clock: Clock
}

const UP = ['ok', 'unavailable'] as const
type Up = (typeof UP)[number]

interface LiveKitHealth {
  status: Up
  /** Why it is unavailable, and what to do about it. */
  kind?: LiveKitFailure
  message?: string
}

export interface Health {
  /** Set once the store is open and the first reconcile was attempted; cleared at shutdown. */
  ready: boolean
  store(): Promise<{ status: Up; lastWebhookAt: number | null }>
  /** Queries LiveKit at most once every two seconds. */
  livekit(): Promise<LiveKitHealth>
}

const LIVEKIT_ANSWER_MS = 2000
/** A room that does not exist: the cheapest query that needs LiveKit to answer and accept the service's key. */
const NO_ROOM = 'behalf-health-check'

export function createHealth({ sessions, livekit, clock }: HealthDeps): Health {
  const once = createSingleFlight<LiveKitHealth>()
  let last: { at: number; answer: LiveKitHealth } | undefined
  return {
    ready: false,
    store: () =>
      sessions.lastWebhookAt().then(
        (lastWebhookAt) => ({ status: 'ok', lastWebhookAt }),
        () => ({ status: 'unavailable', lastWebhookAt: null }),
      ),
    livekit: () =>
      once('livekit', async () => {
        if (last && clock.steady() - last.at < LIVEKIT_ANSWER_MS) return last.answer
        const at = clock.steady()
        const answer = await livekit.listRooms([NO_ROOM]).then((): LiveKitHealth => ({ status: 'ok' }), unavailable)
        last = { at, answer }
        return answer
      }),
  }
}

function unavailable(error: unknown): LiveKitHealth {
  const cause = error instanceof AppError ? error.cause : undefined
  return {
    status: 'unavailable',
    ...(cause instanceof LiveKitError ? { kind: cause.kind, message: cause.message } : {}),
  }
}

const HealthResponse = z
  .object({
    status: z.enum(['ok', 'degraded']).describe('`ok` when store and LiveKit both work.'),
    version: z.string().describe('The service’s version.'),
    store: z.object({ status: z.enum(UP).describe('Whether it answers.') }).describe('The database.'),
    livekit: z
      .object({
        status: z.enum(UP).describe('Whether it answered, at most two seconds ago.'),
        kind: z.enum(LIVEKIT_FAILURES).optional().describe('Why not. Absent while it answers.'),
        message: z.string().optional().describe('The same in a sentence that says what to do.'),
      })
      .describe('The LiveKit server, queried with the service’s key.'),
    lastWebhookAt: z.iso
      .datetime()
      .nullable()
      .describe(
        'UTC. Null while LiveKit has sent none for two days; then only the reconciler keeps sessions up to date.',
      ),
  })
  .openapi('Health')
const LiveResponse = z.object({ status: z.literal('ok').describe('The process answers, whatever else does.') })
const ReadyResponse = z.object({
  status: z
    .enum(['ready', 'not_ready'])
    .describe('`not_ready` until the first reconcile was attempted, while the store fails, and during shutdown.'),
})

/** For operators and orchestrators; no route here needs a token or reveals anything about a user. */
export function healthRoutes({ health, version }: { health: Health; version: string }) {
  return createRouter()
    .openapi(
      createRoute({
        method: 'get',
        path: '/health',
        operationId: 'getHealth',
        tags: ['Operation'],
        security: [],
        summary: 'Store and LiveKit, as they are now',
        responses: {
          200: { description: 'Everything works.', content: jsonContent(HealthResponse) },
          503: { description: 'Something does not work.', content: jsonContent(HealthResponse) },
          ...problems(),
        },
      }),
      async (c) => {
        const [store, livekit] = await Promise.all([health.store(), health.livekit()])
        const ok = store.status === 'ok' && livekit.status === 'ok'
        const { lastWebhookAt } = store
        const report = {
          status: ok ? ('ok' as const) : ('degraded' as const),
          version,
          store: { status: store.status },
          livekit,
          lastWebhookAt: lastWebhookAt === null ? null : new Date(lastWebhookAt).toISOString(),
        }
        return c.json(report, ok ? 200 : 503)
      },
    )
    .openapi(
      createRoute({
        method: 'get',
        path: '/health/live',
        operationId: 'isLive',
        tags: ['Operation'],
        security: [],
        summary: 'The process answers',
        responses: { 200: { description: 'The process answers.', content: jsonContent(LiveResponse) }, ...problems() },
      }),
      (c) => c.json({ status: 'ok' as const }, 200),
    )
    .openapi(
      createRoute({
        method: 'get',
        path: '/health/ready',
        operationId: 'isReady',
        tags: ['Operation'],
        security: [],
        summary: 'Send traffic here: store open, first reconcile attempted',
        responses: {
          200: { description: 'Ready.', content: jsonContent(ReadyResponse) },
          503: { description: 'Not ready.', content: jsonContent(ReadyResponse) },
          ...problems(),
        },
      }),
      async (c) => {
        const ready = health.ready && (await health.store()).status === 'ok'
        return ready ? c.json({ status: 'ready' as const }, 200) : c.json({ status: 'not_ready' as const }, 503)
      },
    )
}
