import { z } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { every } from 'hono/combine'
import { createMiddleware } from 'hono/factory'
import { routePath } from 'hono/route'
import type { Scope } from '../agents/agent.ts'
import type { AgentStore } from '../agents/store.ts'
import type { AuditStore } from '../audit/store.ts'
import { type AgentEnv, agentGuard } from '../auth/guards.ts'
import type { AccessTokens } from '../auth/tokens.ts'
import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import { jsonBody, limitBody, MAX_BODY_BYTES } from '../http/body.ts'
import { limitRate, type RateLimits } from '../http/rate-limit.ts'
import { validationFailed } from '../http/router.ts'
import { leftSince } from '../sessions/lifecycle.ts'
import type { AdmissionRules, Session, SessionStore } from '../sessions/store.ts'
import type { Liveness, LivenessCheck } from './liveness.ts'

/** The pair that every callback names. */
export const Pair = z.object({
  userId: z.string().min(1).max(128).openapi({
    description: 'On whose behalf: `userId` of the job’s metadata.',
    example: 'user_0193a1b2c3d4',
  }),
  sessionId: z.string().min(1).max(128).openapi({
    description: 'In which session of that user: `sessionId` of the job’s metadata.',
    example: 'sess_0193a1b2c3d4',
  }),
})

export interface CallbackEnv extends AgentEnv {
  Variables: AgentEnv['Variables'] & {
    session: Session
    /** What a write of this callback asks for. */
    admission: AdmissionRules
    /** For a write that was refused as `stale`: asks LiveKit once more. @throws AppError as the guard does */
    confirm: () => Promise<void>
  }
}

export interface CallbackGuardDeps {
  limits: Pick<RateLimits, 'agentRequests'>
  tokens: AccessTokens
  agents: AgentStore
  sessions: SessionStore
  audit: AuditStore
  liveness: LivenessCheck
  /** How long a confirmation counts, and how long after the user left a wrap-up is let through. */
  admission: AdmissionRules
  clock: Clock
}

export interface Callback {
  /** What the agent's token must allow. */
  scope: Scope
  /** The whole body (or query, for a GET), with the pair in it: a wrong one is refused before anybody is asked. */
  input: z.ZodType<z.infer<typeof Pair>>
  /** Whether it may still come within `WRAP_UP_SECONDS` of the user having left. */
  mayWrapUp?: boolean
  /** A stored answer for this very request; given back whatever the session's status is now. */
  replay?: (c: CallbackContext, session: Session) => Promise<Response | undefined>
}

type CallbackContext = Context<CallbackEnv>

/** Seconds until asking again makes sense. */
const RETRY_SECONDS = 2

/**
 * The guard of `/agent/*`: a trusted agent, a pair that belongs together, and a user whom LiveKit confirms to be in the
 * session's room. Fails closed; gives the handler `c.var.agent` and `c.var.session`.
 */
export function callbackGuard(deps: CallbackGuardDeps) {
  const { limits, tokens, agents, sessions, audit, liveness, clock } = deps

  async function isWrapUp(sessionId: string, outcome: Liveness, wrapUpMs: number): Promise<boolean> {
    if (wrapUpMs === 0 || outcome === 'unknown') return false
    const known = await sessions.findWithFacts(sessionId)
    const since = known && leftSince(known.facts)
    return since !== null && clock.steady() - since < wrapUpMs
  }

  return ({ scope, input, mayWrapUp, replay }: Callback): MiddlewareHandler<CallbackEnv> => {
    const livePair = createMiddleware<CallbackEnv>(async function livePair(c, next) {
      const { userId, sessionId } = parse(input, readsQuery(c) ? readQuery(c) : await readJson(c))
      const session = await sessions.find(sessionId)
      if (!session || session.userId !== userId) {
        throw new AppError('session_mismatch', 'There is no session of that id for that user.')
      }
      // The handler's pattern, so that the parameters of a path do not make entries without end.
      const route = `${c.req.method} ${routePath(c, -1)}`
      const decided = (outcome: string) =>
        audit.record({ sessionId, agentId: c.var.agent.id, route, outcome, at: clock.now() })
      const stored = await replay?.(c, session)
      if (stored) {
        await decided('replayed')
        return stored
      }
      const admission = { ...deps.admission, wrapUpMs: mayWrapUp ? deps.admission.wrapUpMs : 0 }
      const confirm = async () => {
        const outcome = session.endedAt === null ? await liveness(sessionId) : 'ended'
        if (outcome === 'live' || (await isWrapUp(sessionId, outcome, admission.wrapUpMs))) return
        const refusal = notLive(outcome)
        await decided(refusal.code)
        throw refusal
      }
      await confirm()
      c.set('session', session)
      c.set('admission', admission)
      c.set('confirm', confirm)
      // Begun before the handler's own write, so that both share one commit.
      await Promise.all([decided('allowed'), next()])
      if (c.res.status >= 400) await decided(c.error instanceof AppError ? c.error.code : String(c.res.status))
      return undefined
    })
    const limit = limitRate<AgentEnv>(limits.agentRequests, (c) => c.var.agent.id)
    return every(agentGuard(tokens, agents, scope), limit, limitBody(MAX_BODY_BYTES), jsonBody, livePair)
  }
}

export type CallbackGuard = ReturnType<typeof callbackGuard>

/** Why a callback for a real pair is refused: `session_ended`, `session_not_live` or `liveness_unknown`. */
export function notLive(outcome: Exclude<Liveness, 'live'>): AppError {
  switch (outcome) {
    case 'ended':
      return new AppError('session_ended', 'The session has ended. Stop calling for it.')
    case 'absent':
      return new AppError('session_not_live', 'The user is not in the room now.', {
        retryAfterSeconds: RETRY_SECONDS,
      })
    case 'unknown':
      return new AppError('liveness_unknown', 'LiveKit could not say whether the user is in the room.', {
        retryAfterSeconds: RETRY_SECONDS,
      })
  }
}

/** HEAD is answered as GET is, without the body (RFC 9110 §9.3.2). */
const readsQuery = ({ req }: CallbackContext) => req.method === 'GET' || req.method === 'HEAD'

/** A repeated parameter stays a list, which no schema of a pair takes. */
function readQuery(c: CallbackContext): Record<string, string | string[]> {
  const entries = Object.entries(c.req.queries())
  return Object.fromEntries(
    entries.map(([name, [first = '', ...more]]) => [name, more.length === 0 ? first : [first, ...more]]),
  )
}

async function readJson(c: CallbackContext): Promise<unknown> {
  try {
    return await c.req.json()
  } catch {
    throw new AppError('malformed_json', 'The body is not valid JSON.')
  }
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw validationFailed(parsed.error)
}
