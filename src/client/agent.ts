import { type InferRequestType, type InferResponseType, parseResponse } from 'hono/client'
import { accessToken, authorized } from './access-token.ts'
import { ProblemError } from './problem.ts'
import { type Clock, isTransient, retrying, systemClock } from './retry.ts'
import { type Api, aborting, api as apiOf, type Fetch, type Send, timed, transport } from './transport.ts'

type Agent = Api['agent']
type ProgressBody = InferRequestType<Agent['progress']['$post']>['json']
type EndBody = InferRequestType<Agent['session']['end']['$post']>['json']

/** Whom the agent acts for, and in which session: as its job metadata says. */
export type Pair = InferRequestType<Agent['context']['$get']>['query']
export type ProgressData = ProgressBody['data']
export type StoredProgress = InferResponseType<Agent['progress']['$post'], 201>
export type Context = InferResponseType<Agent['context']['$get'], 200>
export type EndedSession = InferResponseType<Agent['session']['end']['$post'], 200>

export interface AgentCallOptions {
  /** Aborted, the call stops retrying and rejects with its reason. */
  signal?: AbortSignal
}

export interface ProgressOptions extends AgentCallOptions {
  /** What kind of event it is; `progress` if not given. */
  type?: NonNullable<ProgressBody['type']>
  /** Of your own, to repeat a call after the process has died; one per call if not given. */
  idempotencyKey?: string
}

export interface EndOptions extends AgentCallOptions, Omit<EndBody, keyof Pair> {}

export interface AgentClientOptions {
  /** Where the service is, such as `https://api.example.com`. */
  url: string
  /** The agent account, as `npm run agent` made it. */
  id: string
  secret: string
  /** Default: the global one. */
  fetch?: Fetch
  /** How long a call is repeated while the user is not (yet) in the room. Default: 10 s. */
  notLivePatienceMs?: number
  /** How long a call is repeated while the service cannot be reached or cannot say. Default: 30 s. */
  unavailablePatienceMs?: number
  clock?: Clock
}

/** The service answers within a few seconds, also when LiveKit does not. */
const ATTEMPT_MS = 10_000

/**
 * What an agent does with the service. Calls are repeated with backoff while the user is not in the room yet or the
 * service is out of order. They reject with a `ProblemError`; after `session_ended` there is nothing left to do.
 * @example
 * const agent = agentClient({ url, id: 'tutor', secret })
 * const session = agent.session(JSON.parse(job.metadata))
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
  const access = accessToken({ issue: () => serviceToken(url, { id, secret }, sendOnce), now: clock.now })
  const sendAsAgent = authorized(sendOnce, access)

  function patienceMs(error: unknown): number {
    if (isTransient(error)) return unavailablePatienceMs
    return error instanceof ProblemError && error.code === 'session_not_live' ? notLivePatienceMs : 0
  }
  // Below the typed client, so that all attempts of a call send the same bytes and the same Idempotency-Key.
  const send: Send = (input, init) =>
    retrying(() => sendAsAgent(input, init), { clock, signal: init?.signal, patienceMs })
  const { agent } = apiOf(url, send)

  /** Tells the user's session what the agent is doing; stored once, however often it has to be sent. */
  function progress(
    { userId, sessionId }: Pair,
    data: ProgressData,
    { type, idempotencyKey = crypto.randomUUID(), signal }: ProgressOptions = {},
  ): Promise<StoredProgress> {
    const json = { userId, sessionId, data, ...(type === undefined ? {} : { type }) }
    const header = { 'idempotency-key': idempotencyKey }
    return parseResponse(agent.progress.$post({ json, header }, aborting(signal)))
  }

  /** Whom the agent is talking to, and what happened in the session so far. */
  function context({ userId, sessionId }: Pair, { signal }: AgentCallOptions = {}): Promise<Context> {
    return parseResponse(agent.context.$get({ query: { userId, sessionId } }, aborting(signal)))
  }

  /** Ends the session and removes the user from the room. `session_ended` says that it was over: before, or by a first attempt. */
  function end({ userId, sessionId }: Pair, { signal, ...body }: EndOptions = {}): Promise<EndedSession> {
    return parseResponse(agent.session.end.$post({ json: { ...body, userId, sessionId } }, aborting(signal)))
  }

  return {
    progress,
    context,
    end,
    /** The same calls for one pair. */
    session: (pair: Pair) => ({
      progress: (data: ProgressData, options?: ProgressOptions) => progress(pair, data, options),
      context: (options?: AgentCallOptions) => context(pair, options),
      end: (options?: EndOptions) => end(pair, options),
    }),
  }
}

export type AgentClient = ReturnType<typeof agentClient>

/** RFC 6749 §4.4: by form, as the typed client would send multipart. */
async function serviceToken(url: string, { id, secret }: { id: string; secret: string }, send: Send) {
  const form = { grant_type: 'client_credentials', client_id: id, client_secret: secret }
  const { agent } = apiOf(url, (input, init) => send(input, { ...init, body: new URLSearchParams(form) }))
  return parseResponse(agent.token.$post())
}
