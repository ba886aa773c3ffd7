import { createRoute, z } from '@hono/zod-openapi'
import type { MiddlewareHandler } from 'hono'
import { type UserEnv, userGuard, userGuardRefusals } from '../auth/guards.ts'
import type { AccessTokens } from '../auth/tokens.ts'
import { AppError } from '../errors.ts'
import { problems } from '../http/problem.ts'
import { createRouter } from '../http/router.ts'
import type { AuditEntry, AuditStore } from '../store/audit.ts'
import type { SessionStore } from '../store/sessions.ts'

interface AuditRoutesDeps {
  tokens: AccessTokens
  limitReads: MiddlewareHandler<UserEnv>
  sessions: SessionStore
  audit: AuditStore
}

const Entry = z
  .object({
    agentId: z.string().describe('Who called.'),
    route: z.string().describe('Method and path, such as `POST /agent/progress`.'),
    outcome: z
      .string()
      .describe(
        [
          '`allowed`: let through by the guard; `replayed`: answered from an Idempotency-Key; otherwise the code of the',
          'refusal. When the route itself refuses what the guard let through, that is a second entry beside `allowed`.',
        ].join(' '),
      ),
    count: z.number().int().describe('Calls within one minute with this outcome.'),
    firstAt: z.iso.datetime().describe('UTC, the first of them.'),
    lastAt: z.iso.datetime().describe('UTC, the last of them.'),
  })
  .openapi('AuditEntry')
const AuditTrailResponse = z.object({ entries: z.array(Entry).describe('Newest first.') }).openapi('AuditTrail')

/** An entry as the API and the CLI show it. */
export const entryJson = ({ agentId, route, outcome, count, firstAt, lastAt }: AuditEntry): z.infer<typeof Entry> => ({
  agentId,
  route,
  outcome,
  count,
  firstAt: new Date(firstAt).toISOString(),
  lastAt: new Date(lastAt).toISOString(),
})

/** Lets users read what agents did on their behalf. */
export function auditRoutes({ tokens, limitReads, sessions, audit }: AuditRoutesDeps) {
  const router = createRouter<UserEnv>()
  router.use('/sessions/:id/audit', userGuard(tokens), limitReads)
  return router.openapi(
    createRoute({
      method: 'get',
      path: '/sessions/{id}/audit',
      operationId: 'getAuditTrail',
      tags: ['Sessions'],
      summary: 'Which agents acted in it on your behalf, and what was refused; newest first',
      security: [{ userToken: [] }],
      request: {
        params: z.object({ id: z.string().min(1).max(128).describe('The id of one of the user’s sessions.') }),
        query: z.object({
          limit: z.coerce.number().int().min(1).max(1000).default(100).describe('Entries at most.'),
        }),
      },
      responses: {
        200: { description: 'The newest entries.', content: { 'application/json': { schema: AuditTrailResponse } } },
        ...problems(...userGuardRefusals, 'validation_failed', 'session_not_found', 'rate_limited'),
      },
    }),
    async (c) => {
      const { id } = c.req.valid('param')
      const session = await sessions.find(id)
      if (session?.userId !== c.var.user.userId) {
        throw new AppError('session_not_found', 'You have no such session.')
      }
      const entries = await audit.ofSession(id, c.req.valid('query').limit)
      return c.json({ entries: entries.map(entryJson) }, 200)
    },
  )
}
