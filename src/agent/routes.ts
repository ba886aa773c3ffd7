import { meResponse } from '../auth/schemas.ts'
import { createRouter } from '../http/router.ts'
import { eventResponse, SessionResponse, sessionResponse } from '../sessions/json.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { Store } from '../store/store.ts'
import { keyReused, type MakeAgentRoute, mismatch, Pair } from './agent-route.ts'
import {
  assignmentResponse,
  CONTEXT_EVENTS,
  ContextResponse,
  EndRequest,
  ProgressRequest,
  StoredResponse,
  stored,
} from './schemas.ts'
import { type AgentTokenRoutesDeps, agentTokenRoutes } from './token-routes.ts'

interface AgentRoutesDeps extends AgentTokenRoutesDeps {
  agentRoute: MakeAgentRoute
  store: Store
  sessions: Sessions
}

/** The agent's routes: get a token, and act on behalf of the user who is in the room. */
export function agentRoutes({ agentRoute, sessions, ...deps }: AgentRoutesDeps) {
  const { users, events, jobs } = deps.store
  const progress = agentRoute(
    {
      method: 'post',
      path: '/agent/progress',
      operationId: 'reportProgress',
      tags: ['Agents'],
      summary: 'Report progress on behalf of the user',
      scope: 'progress:write',
      input: ProgressRequest,
      answer: StoredResponse,
      answerDescription: 'Stored; the same answer for a repeated Idempotency-Key.',
      status: 201,
      mayWrapUp: true,
      replay: stored,
    },
    async ({ agent, session, input: { type, data }, key, write }) => {
      const event = await write((known, rules) => sessions.report(known, { agentId: agent.id, type, data, key }, rules))
      if (event === 'key_reused') throw keyReused()
      return stored(session, event)
    },
  )

  const context = agentRoute(
    {
      method: 'get',
      path: '/agent/context',
      operationId: 'getContext',
      tags: ['Agents'],
      summary: 'Whom the agent is talking to, and what happened so far',
      scope: 'context:read',
      input: Pair,
      answer: ContextResponse,
      answerDescription: 'The context.',
      status: 200,
    },
    async ({ agent, session }) => {
      const [user, last, job] = await Promise.all([
        users.findUser(session.userId),
        events.last(session.id, CONTEXT_EVENTS),
        jobs.newest(session.id, agent.id),
      ])
      if (!user) throw mismatch()
      return {
        user: meResponse(user),
        session: sessionResponse(session),
        ...(job ? { assignment: assignmentResponse(job) } : {}),
        events: last.map(eventResponse),
        cursor: last.at(-1)?.seq ?? 0,
      }
    },
  )

  const end = agentRoute(
    {
      method: 'post',
      path: '/agent/session/end',
      operationId: 'endSessionAsAgent',
      tags: ['Agents'],
      summary: 'End the session and remove its participant',
      scope: 'session:end',
      input: EndRequest,
      answer: SessionResponse,
      answerDescription: 'Ended.',
      status: 200,
      mayWrapUp: true,
    },
    async ({ agent, input: { reason, result }, write }) => {
      const note = { agentId: agent.id, ...(reason ? { detail: reason } : {}), ...(result ? { result } : {}) }
      return sessionResponse(await write((known, rules) => sessions.endAsAgent(known, note, rules)))
    },
  )

  return createRouter()
    .route('/', agentTokenRoutes(deps))
    .openapi(...progress)
    .openapi(...context)
    .openapi(...end)
}
