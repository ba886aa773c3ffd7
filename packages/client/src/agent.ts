import { authorized, accessToken as createAccessToken } from './access-token.ts'
import { ProblemError } from './problem.ts'
import { type Clock, isTransient, retrying, systemClock } from './retry.ts'
import { api as apiOf, type Fetch, type Send, timed, transport } from './transport.ts'
import type { AgentToken, Context, Pair, Progress, Session, SessionEnd, StoredProgress } from './wire.ts'

export interface AgentCallOptions {
  /** When aborted, the call stops retrying and rejects with the signal's reason. */
  signal?: AbortSignal
}

export interface ProgressOptions extends AgentCallOptions {
  /** What kind of event it is; `progress` if not given. */
  type?: string
  /** Your own key, so that a call can be repeated after a crash. Default: one per call. */
  idempotencyKey?: string
}

export interface EndOptions extends AgentCallOptions, Omit<SessionEnd, keyof Pair> {}

export interface RequestOptions extends AgentCallOptions {
  /** Default: POST. */
  method?: string
  /** Sent with every attempt; honour it in a route that must not run twice. Default: one per call. */
  idempotencyKey?: string
}

/** The pair, and the route's other fields. */
export type RequestFields = Pair | (Pair & Record<string, unknown>)

export interface AgentClientOptions {
  /** Where the service is, such as `https://api.example.com`. */
  url: string
  /** The agent account's id, as `npm run agent` created it. */
  id: string
  secret: string
  /** Default: the global one. */
  fetch?: Fetch
  /** How long a call is retried while the user is not in the room. Default: 10 s. */
  notLivePatienceMs?: number
  /** How long a call is retried while the service is unavailable. Default: 30 s. */
  unavailablePatienceMs?: number
  clock?: Clock
}

/** The service answers within a few seconds, even if LiveKit does not. */
const ATTEMPT_MS = 10_000

/**
 * The agent's client. Calls are retried with backoff while the user is not in the room yet or the service is
 * unavailable. They reject with a `ProblemError`; after `session_ended`, stop calling.
 * @example
 * const agent = agentClient({ url, id: 'tutor', secret })
 * const { userId, sessionId } = ctx.job.attributes
 * const session = agent.session({ userId, sessionId })
 * await session.progress({ step: 1 })
 */
export function agentClient({
  url,
  id,
  secret,
  fetch,
  notLivePatienceMs = 10_000,
  unavailablePatienceMs = 30_000,
  clock = systemClock,
}: AgentClientOptions) {
  const sendOnce = timed(transport(fetch), ATTEMPT_MS)
  const access = createAccessToken({ issue: () => serviceToken(url, { id, secret }, sendOnce), now: clock.now })
  const sendAsAgent = authorized(sendOnce, access)

  function patienceMs(error: unknown): number {
    if (isTransient(error)) return unavailablePatienceMs
    return error instanceof ProblemError && error.code === 'session_not_live' ? notLivePatienceMs : 0
  }
  // Below the typed client, so that all attempts of a call send the same bytes and the same Idempotency-Key.
  const send: Send = (input, init) =>
    retrying(() => sendAsAgent(input, init), { clock, signal: init?.signal, patienceMs })
  const { call } = apiOf(url, send)

  /** Reports to the user's session what the agent is doing. Stored once, even if it is sent several times. */
  function progress(
    { userId, sessionId }: Pair,
    data: Progress['data'],
    { type, ...options }: ProgressOptions = {},
  ): Promise<StoredProgress> {
    return request('/agent/progress', { userId, sessionId, data, type }, options)
  }

  /** Who the agent is talking to, and what happened in the session so far. */
  function context({ userId, sessionId }: Pair, { signal }: AgentCallOptions = {}): Promise<Context> {
    return call('GET', '/agent/context', { query: { userId, sessionId }, signal })
  }

  /** Ends the session and removes the user from the room. `session_ended` means that it had ended already, perhaps by an earlier attempt. */
  function end({ userId, sessionId }: Pair, { signal, ...body }: EndOptions = {}): Promise<Session> {
    return call('POST', '/agent/session/end', { json: { ...body, userId, sessionId }, signal })
  }

  /**
   * Calls your own guarded route with the same token, retries and errors. GET sends the fields as the query, other
   * methods send them as JSON; the route must answer with JSON or 204. A refusal without a code is `refused`.
   * @example const { orderId } = await agent.request<Order>('/agent/orders', { userId, sessionId, item: 'tea' })
   */
  function request<Answer>(
    path: string,
    fields: RequestFields,
    { method = 'POST', idempotencyKey = crypto.randomUUID(), signal }: RequestOptions = {},
  ): Promise<Answer> {
    const content = method === 'GET' ? { query: fields } : { json: fields }
    return call(method, path, { ...content, headers: { 'Idempotency-Key': idempotencyKey }, signal })
  }

  /** The agent's own access token, valid for at least a minute, for requests that you send yourself. */
  const accessToken = ({ signal }: AgentCallOptions = {}): Promise<string> =>
    retrying(access.current, { clock, signal, patienceMs })

  return {
    progress,
    context,
    end,
    request,
    accessToken,
    /** The same calls for one pair. */
    session: (pair: Pair) => ({
      progress: (data: Progress['data'], options?: ProgressOptions) => progress(pair, data, options),
      context: (options?: AgentCallOptions) => context(pair, options),
      end: (options?: EndOptions) => end(pair, options),
      request: <Answer>(path: string, fields: object = {}, options?: RequestOptions) =>
        request<Answer>(path, { ...fields, userId: pair.userId, sessionId: pair.sessionId }, options),
    }),
  }
}

export type AgentClient = ReturnType<typeof agentClient>

/** RFC 6749 §4.4. */
async function serviceToken(url: string, { id, secret }: { id: string; secret: string }, send: Send) {
  const form = { grant_type: 'client_credentials', client_id: id, client_secret: secret }
  return apiOf(url, send).call<AgentToken>('POST', '/agent/token', { form })
}
