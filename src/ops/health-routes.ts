import { createRoute, z } from '@hono/zod-openapi'
import { problems } from '../http/problem.ts'
import { createRouter } from '../http/router.ts'
import { LIVEKIT_FAILURES } from '../livekit/livekit.ts'
import type { Health } from './health.ts'

interface HealthRoutesDeps {
  health: Health
  version: string
}

const Up = z.enum(['ok', 'unavailable'])
const HealthResponse = z
  .object({
    status: z.enum(['ok', 'degraded']).describe('`ok` when store and LiveKit both work.'),
    version: z.string().describe('The service’s version.'),
    store: z.object({ status: Up.describe('Whether it answers.') }).describe('The database.'),
    livekit: z
      .object({
        status: Up.describe('Whether it answered, at most two seconds ago.'),
        kind: z.enum(LIVEKIT_FAILURES).optional().describe('Why not. Absent while it answers.'),
        message: z.string().optional().describe('The same in a sentence that says what to do.'),
      })
      .describe('The LiveKit server, queried with the service’s key.'),
    lastWebhookAt: z.iso
      .datetime()
      .nullable()
      .describe('UTC. Null while LiveKit has sent none for a day; then only the reconciler keeps sessions up to date.'),
  })
  .openapi('Health')
const LiveResponse = z.object({ status: z.literal('ok').describe('The process answers, whatever else does.') })
const ReadyResponse = z.object({
  status: z
    .enum(['ready', 'not_ready'])
    .describe('`not_ready` until the first reconcile was attempted, while the store fails, and during shutdown.'),
})
const json = <T extends z.ZodType>(schema: T) => ({ 'application/json': { schema } })

/** For operators and orchestrators; no route here needs a token or reveals anything about a user. */
export function healthRoutes({ health, version }: HealthRoutesDeps) {
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
          200: { description: 'Everything works.', content: json(HealthResponse) },
          503: { description: 'Something does not work.', content: json(HealthResponse) },
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
        responses: { 200: { description: 'The process answers.', content: json(LiveResponse) }, ...problems() },
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
          200: { description: 'Ready.', content: json(ReadyResponse) },
          503: { description: 'Not ready.', content: json(ReadyResponse) },
          ...problems(),
        },
      }),
      async (c) => {
        const ready = health.ready && (await health.store()).status === 'ok'
        return ready ? c.json({ status: 'ready' as const }, 200) : c.json({ status: 'not_ready' as const }, 503)
      },
    )
}
