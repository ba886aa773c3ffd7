import { expect, vi } from 'vitest'
import { z } from 'zod'
import { createAgentAccounts } from '../src/agent/accounts.ts'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { DEFAULT_SCOPES, type Scope } from '../src/auth/scopes.ts'
import { Problem } from '../src/http/problem.ts'
import { EventResponse, SessionResponse } from '../src/sessions/json.ts'
import { agentToken } from './agent-client.ts'
import { postWebhook, startSfu } from './sfu.ts'
import { makeApp, post, type TestAppOptions } from './support.ts'

export interface Pair {
  userId: string
  sessionId: string
}

/** A signed-in user. */
export interface SignedIn {
  id: string
  bearer: string
  refreshToken: string
}

/** A session as its client holds it. */
export interface Minted {
  pair: Pair
  room: string
  joinToken: string
}

const TokenAnswer = z.object({ session_id: z.string(), room_name: z.string(), participant_token: z.string() })
const EventPage = z.object({ events: z.array(EventResponse), after: z.number(), hasMore: z.boolean() })

/** The whole setting: the app, a LiveKit to ask, and ways to make users, sessions and agents over HTTP. */
export async function scene(options: Omit<TestAppOptions, 'sfu'> = {}) {
  const sfu = await startSfu()
  const t = await makeApp({ ...options, sfu })
  const accounts = createAgentAccounts(t.store)
  const get = (path: string, bearer: string) => t.app.request(path, { headers: { Authorization: `Bearer ${bearer}` } })

  async function newUser(): Promise<SignedIn> {
    const answer = SignedInResponse.parse(await (await post(t.app, '/auth/guest', {})).json())
    return { id: answer.user.id, bearer: answer.access_token, refreshToken: answer.refresh_token }
  }

  async function newSession(user: SignedIn, request: Record<string, unknown> = {}): Promise<Minted> {
    const answer = TokenAnswer.parse(await (await post(t.app, '/token', request, user.bearer)).json())
    const pair = { userId: user.id, sessionId: answer.session_id }
    return { pair, room: answer.room_name, joinToken: answer.participant_token }
  }

  return {
    ...t,
    sfu,
    accounts,
    get,
    newUser,
    newSession,
    /** An agent account and an access token of it. */
    async newAgent(id = 'tutor', scopes: readonly Scope[] = DEFAULT_SCOPES, summon: 'any' | 'none' = 'any') {
      const credentials = await accounts.create(id, scopes, summon)
      return { id, secret: credentials.secret, bearer: await agentToken(t.app, credentials) }
    },
    /** A user in the room of their own session, before any webhook or liveness check. */
    async present(request: Record<string, unknown> = {}) {
      const user = await newUser()
      const session = await newSession(user, request)
      return { user, ...session, leg: sfu.join(session.joinToken) }
    },
    /** POST /agent/progress */
    progress: (bearer: string, pair: Pair, headers: Record<string, string> = {}, data: unknown = { status: 'done' }) =>
      post(t.app, '/agent/progress', { ...pair, data }, bearer, headers),
    context: (bearer: string, pair: Pair) => get(`/agent/context?${new URLSearchParams({ ...pair })}`, bearer),
    end: (bearer: string, pair: Pair, more: Record<string, unknown> = {}) =>
      post(t.app, '/agent/session/end', { ...pair, ...more }, bearer),
    /** GET /sessions/{id} */
    sessionOf: async ({ bearer }: SignedIn, { sessionId }: Pair) =>
      SessionResponse.parse(await (await get(`/sessions/${sessionId}`, bearer)).json()),
    /** GET /sessions/{id}/events */
    eventsOf: async ({ bearer }: SignedIn, { sessionId }: Pair) =>
      EventPage.parse(await (await get(`/sessions/${sessionId}/events`, bearer)).json()).events,
  }
}

export type Scene = Awaited<ReturnType<typeof scene>>

/** A scene with one agent, and one user who is in the room. */
export async function callingScene(options?: Parameters<typeof scene>[0], scopes?: readonly Scope[]) {
  const s = await scene(options)
  const agent = await s.newAgent('tutor', scopes)
  const present = await s.present()
  return {
    s,
    agent,
    ...present,
    /** The agent's callback for that user. */
    report: () => s.progress(agent.bearer, present.pair),
    /** How many liveness requests the guard sent to LiveKit. */
    asked: () => s.sfu.asked('GetParticipant'),
    /** Resolves when that many questions have arrived, answered or not. */
    untilAsked: (times: number) =>
      vi.waitFor(() => expect(s.sfu.asked('GetParticipant')).toBe(times), { timeout: 4000, interval: 10 }),
  }
}

/** A scene with one user whose join only the SFU knows of, and what the app shows of the session. */
export async function joinedScene(options?: Parameters<typeof scene>[0]) {
  const s = await scene(options)
  const present = await s.present()
  return {
    s,
    ...present,
    deliver: async (event: unknown) => expect((await postWebhook(s, event)).status).toBe(200),
    status: async () => (await s.sessionOf(present.user, present.pair)).status,
    statuses: async () => (await s.eventsOf(present.user, present.pair)).map(({ data }) => data),
  }
}

/** Status and code of a refusal; fails for anything that is not a well-formed problem. */
export async function refusal(answer: Response | Promise<Response>) {
  const refused = await answer
  expect(refused.headers.get('Content-Type')).toBe('application/problem+json')
  const problem = z.strictObject(Problem.shape).parse(await refused.json())
  expect(problem.status).toBe(refused.status)
  return { status: refused.status, code: problem.code }
}

export const NOT_LIVE = { status: 409, code: 'session_not_live' }
export const UNKNOWN = { status: 503, code: 'liveness_unknown' }
export const ENDED = { status: 409, code: 'session_ended' }
