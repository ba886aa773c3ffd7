import { hash } from 'node:crypto'
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { routePath } from 'hono/route'
import { type AgentEnv, agentGuard, agentGuardRefusals } from '../auth/guards.ts'
import type { Scope } from '../auth/scopes.ts'
import type { AccessTokens } from '../auth/tokens.ts'
import { AppError } from '../errors.ts'
import { jsonBody, jsonBodyRefusals, limitBody, MAX_BODY_BYTES } from '../http/body.ts'
import { problems } from '../http/problem.ts'
import { limitRate, type RateLimits } from '../http/rate-limit.ts'
import { jsonContent, strictObject } from '../http/router.ts'
import type { Metrics } from '../metrics.ts'
import type { Assignments } from '../sessions/assignments.ts'
import { confirmedAt, leftSince, mayAct, type Refusal, replayOf } from '../sessions/lifecycle.ts'
import { type LivenessCheck, notLive } from '../sessions/liveness.ts'
import type { Admission, AdmissionRules } from '../sessions/sessions.ts'
import type { Agent } from '../store/agents.ts'
import type { IdempotencyKey, Known, Session, SessionEvent } from '../store/sessions.ts'
import type { Store } from '../store/store.ts'

/** The user and session that every callback names. */
export const Pair = strictObject({
  userId: z.string().min(1).max(128).openapi({
    description: 'On whose behalf: `userId` of the job’s attributes.',
    example: 'user_0193a1b2c3d4',
  }),
  sessionId: z.string().min(1).max(128).openapi({
    description: 'In which session of that user: `sessionId` of the job’s attributes.',
    example: 'sess_0193a1b2c3d4',
  }),
})

/** Documented only: the guard reads it, and a schema would have every header of the request copied. */
export const IDEMPOTENCY_KEY_HEADER = {
  in: 'header',
  name: 'idempotency-key',
  required: false,
  schema: { type: 'string' },
  description: [
    '1 to 255 visible ASCII characters, kept for 24 hours for this agent and session. The same key and body again get the',
    'first answer again and store nothing; the same key with another body is `idempotency_key_reused`.',
  ].join(' '),
} as const

type Method = 'get' | 'post' | 'put' | 'patch' | 'delete'
type Ok = 200 | 201
/** A schema that extends `Pair`. */
type Input = z.ZodObject & z.ZodType<z.infer<typeof Pair>>

/** A route that an agent calls on behalf of the user who is in the room. */
export interface AgentRoute<M extends Method, P extends string, I extends Input, A extends z.ZodType, S extends Ok> {
  method: M
  path: P
  /** The scope that the agent's token must have. */
  scope: Scope
  /** The body, or a GET's query: `Pair`, extended with what the route needs. */
  input: I
  /** The response body. */
  answer: A
  /** For the OpenAPI document. */
  answerDescription?: string
  /** The response's status code. */
  status: S
  /** Whether the route still accepts calls within `WRAP_UP_SECONDS` of the user leaving. */
  mayWrapUp?: boolean
  /** Makes the route honour `Idempotency-Key`: rebuilds the response from the event that the first request stored. */
  replay?: (session: Session, event: SessionEvent) => z.input<A>
  operationId?: string
  summary?: string
  description?: string
  tags?: string[]
}

type JsonOf<T extends z.ZodType> = ReturnType<typeof jsonContent<T>>
type RequestOf<M extends Method, I extends Input> = M extends 'get'
  ? { query: I }
  : { body: { required: true; content: JsonOf<I> } }
type ResponsesOf<S extends Ok, A extends z.ZodType> = {
  [K in S]: { description: string; content: JsonOf<A> }
} & ReturnType<typeof problems<(typeof REFUSALS)[number]>>

/** A call that passed the guard: the agent is authenticated, the session is the user's, the user is in the room. */
export interface AgentCall<I> {
  agent: Agent
  session: Session
  /** The parsed body or query. */
  input: I
  /** The request's `Idempotency-Key`, if the route honours one. */
  key: IdempotencyKey | null
  /**
   * Writes only while the user is still in the room: the store rechecks that inside `attempt`. If the confirmation has
   * grown too old meanwhile, LiveKit is asked once more. @throws AppError as the guard does
   */
  write<T>(attempt: (known: Known, admission: Admission) => Promise<T | Refusal>): Promise<T>
  context: Context<AgentEnv>
}

interface AgentRouteDeps {
  limits: Pick<RateLimits, 'agentRequests'>
  tokens: AccessTokens
  store: Pick<Store, 'clock' | 'agents' | 'sessions' | 'audit'>
  liveness: LivenessCheck
  admission: AdmissionRules
  /** All scopes that exist. */
  scopes: readonly Scope[]
  /** Whether an account may act for a session only while it has its job; null if it needs none. */
  assignments: Pick<Assignments, 'hasJob'> | null
  metrics: Pick<Metrics, 'guardDecisions' | 'confirmationAge'>
}

const REFUSALS = [
  ...agentGuardRefusals,
  'rate_limited',
  'validation_failed',
  'session_mismatch',
  'not_sessions_agent',
  'no_assignment',
  'session_full',
  'session_not_live',
  'session_ended',
  'liveness_unknown',
] as const
export const KEY_REFUSALS = ['invalid_idempotency_key', 'idempotency_key_reused'] as const

/**
 * The one way to declare a guarded route, the service's or a team's: `app.openapi(...agentRoute({…}, handler))`. Runs
 * the cheapest checks first and fails closed; the README gives the order.
 */
export function createAgentRoute(deps: AgentRouteDeps) {
  const { limits, tokens, store, liveness, admission, scopes, assignments, metrics } = deps
  const { clock, agents, sessions, audit } = store

  return function agentRoute<M extends Method, P extends string, I extends Input, A extends z.ZodType, S extends Ok>(
    definition: AgentRoute<M, P, I, A, S>,
    handler: (call: AgentCall<z.output<I>>) => z.input<A> | Response | Promise<z.input<A> | Response>,
  ) {
    const { scope, input, answer, answerDescription = 'Done.', status, mayWrapUp, replay, ...documented } = definition
    const { method, path } = definition
    if (!scopes.includes(scope)) throw new Error(`${path} requires the scope ${scope}: add it to AGENT_SCOPES.`)
    const rules = { ...admission, wrapUpMs: mayWrapUp ? admission.wrapUpMs : 0 }
    const request = method === 'get' ? { query: input } : { body: { required: true, content: jsonContent(input) } }
    const refusals = [...REFUSALS, ...(method === 'get' ? [] : jsonBodyRefusals), ...(replay ? KEY_REFUSALS : [])]
    const responses = {
      [status]: { description: answerDescription, content: jsonContent(answer) },
      ...problems(...refusals),
    }
    const route = createRoute({
      ...documented,
      security: [{ agentToken: [scope] }],
      ...(replay ? { parameters: [IDEMPOTENCY_KEY_HEADER] } : {}),
      middleware: [
        agentGuard(tokens, agents, scope),
        limitRate<AgentEnv>(limits.agentRequests, (c) => c.var.agent.id),
        limitBody(MAX_BODY_BYTES),
        jsonBody,
      ] as const,
      request: request as unknown as RequestOf<M, I>,
      responses: responses as unknown as ResponsesOf<S, A>,
    })

    async function guarded(c: Context<AgentEnv>): Promise<Response> {
      const parsed = c.req.valid((method === 'get' ? 'query' : 'json') as never) as z.output<I>
      const { userId, sessionId } = parsed
      const { agent } = c.var
      const key = replay ? await idempotencyKey(c) : null
      // The route's pattern, so that path parameters do not multiply the entries.
      const name = `${c.req.method} ${routePath(c, -1)}`
      const decided = (outcome: string, about: string | null = sessionId) => {
        metrics.guardDecisions.inc({ outcome })
        return audit.record({ sessionId: about, agentId: agent.id, route: name, outcome, at: clock.now() })
      }
      const known = await sessions.load(sessionId, key)
      if (known?.session.userId !== userId) {
        await decided('session_mismatch', null)
        throw mismatch()
      }
      const { session } = known

      async function confirm(loaded: Known): Promise<Known> {
        const { liveness: outcome, known } = await liveness(loaded)
        const left = rules.wrapUpMs > 0 && outcome !== 'unknown' ? leftSince(known.facts) : null
        const isWrapUp = left !== null && left > clock.since(rules.wrapUpMs)
        if (outcome === 'live' || isWrapUp) return known
        throw notLive(outcome)
      }

      async function write<T>(attempt: (known: Known, admission: Admission) => Promise<T | Refusal>): Promise<T> {
        const own = { ...rules, caller: agent }
        let outcome = await attempt(confirmed, own)
        if (outcome === 'stale')
          outcome = await attempt(await confirm((await sessions.load(sessionId)) ?? confirmed), own)
        if (isRefusal(outcome)) throw REFUSED[outcome]()
        return outcome
      }

      let confirmed = known
      try {
        if (!mayAct(session, agent)) throw notSessionsAgent()
        if (assignments && !(await assignments.hasJob(sessionId, agent.id, rules.wrapUpMs))) throw noAssignment()
        const replayed = replayOf(known, key)
        if (replayed === 'key_reused') throw keyReused()
        if (replayed && replay) {
          await decided('replayed')
          return c.json(replay(session, replayed), status)
        }
        confirmed = await confirm(known)
        const at = confirmedAt(confirmed.facts)
        if (at !== null) metrics.confirmationAge.observe((clock.steady() - at) / 1000)
        const call = { agent, session: confirmed.session, input: parsed, key, write, context: c }
        // Started together, so that the audit entry and the handler's own write share one commit. Both are awaited: no
        // answer, a refusal by the handler neither, leaves before the entry is stored.
        const [recorded, handled] = await Promise.allSettled([decided('allowed'), (async () => handler(call))()])
        if (handled.status === 'rejected') throw handled.reason
        if (recorded.status === 'rejected') throw recorded.reason
        const result = handled.value
        if (result === undefined) throw new Error(`The handler of ${name} returned nothing to answer`)
        if (!(result instanceof Response)) return c.json(result as object, status)
        if (result.status >= 400) await decided(String(result.status))
        return result
      } catch (thrown) {
        const error =
          thrown instanceof Error
            ? thrown
            : new Error('A handler threw something that is not an Error', { cause: thrown })
        await decided(codeOf(error))
        throw error
      }
    }

    return [route, guarded as never] as const
  }
}

export type MakeAgentRoute = ReturnType<typeof createAgentRoute>

const REFUSED: Record<Refusal, () => AppError> = {
  stale: () => notLive('unknown'),
  not_live: () => notLive('absent'),
  ended: () => notLive('ended'),
  not_sessions_agent: notSessionsAgent,
  session_full: () =>
    new AppError('session_full', 'The session holds as many events as it may. It can still be ended.'),
}
const isRefusal = (outcome: unknown): outcome is Refusal =>
  typeof outcome === 'string' && Object.hasOwn(REFUSED, outcome)

/** The audit outcome for a refusal by the handler itself. */
export function codeOf(error: unknown): string {
  if (error instanceof AppError) return error.code
  return error instanceof HTTPException && error.status < 500 ? String(error.status) : '500'
}

/** @throws AppError `invalid_idempotency_key` */
export async function idempotencyKey(c: Context<AgentEnv>): Promise<IdempotencyKey | null> {
  const key = c.req.header('Idempotency-Key')
  if (key === undefined) return null
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new AppError('invalid_idempotency_key', 'An Idempotency-Key is 1 to 255 visible ASCII characters.')
  }
  const payloadHash = hash('sha256', await c.req.text())
  return { agentId: c.var.agent.id, key, payloadHash }
}

export const mismatch = () => new AppError('session_mismatch', 'This user has no session with that id.')

function notSessionsAgent(): AppError {
  const lacks = 'this one lacks the scope sessions:any'
  return new AppError('not_sessions_agent', `Another agent was dispatched to this session, and ${lacks}.`)
}

const noAssignment = () =>
  new AppError('no_assignment', 'This agent was given no job for the session, or the job has ended.')

export const keyReused = () =>
  new AppError('idempotency_key_reused', 'This Idempotency-Key was already used with another body in this session.')
