import { createRoute, z } from '@hono/zod-openapi'
import { type AgentEnv, agentGuard, agentGuardRefusals } from '../auth/guards.ts'
import type { AccessTokens } from '../auth/tokens.ts'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { jsonBody, jsonBodyRefusals, limitBody, MAX_BODY_BYTES } from '../http/body.ts'
import { problems } from '../http/problem.ts'
import { limitRate, type RateLimits } from '../http/rate-limit.ts'
import { createRouter, jsonContent } from '../http/router.ts'
import type { LiveKit } from '../livekit/livekit.ts'
import type { Background } from '../sessions/background.ts'
import { type Caller, change, isAgentOf, replayOf, reported, statusOf } from '../sessions/lifecycle.ts'
import { notLive } from '../sessions/liveness.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { Changed, IdempotencyKey, Known, Session, SessionEvent } from '../store/sessions.ts'
import type { Store } from '../store/store.ts'
import {
  codeOf,
  IDEMPOTENCY_KEY_HEADER,
  idempotencyKey,
  KEY_REFUSALS,
  keyReused,
  mismatch,
  Pair,
} from './agent-route.ts'
import { CallRequest, StoredResponse, stored } from './schemas.ts'

interface CallRoutesDeps {
  tokens: AccessTokens
  sessions: Pick<Sessions, 'dispatcher' | 'removal'>
  store: Pick<Store, 'clock' | 'agents' | 'sessions' | 'audit'>
  livekit: LiveKit
  background: Background
  limits: Pick<RateLimits, 'agentRequests' | 'agentCalls'>
  /** `sipTrunkId` is LiveKit's outbound trunk; there are no calls without one. */
  config: Pick<Config, 'sipTrunkId' | 'maxSessionMinutes'>
}

/** For how long no second call is placed when LiveKit's answer to the first was lost: the phone may ring. */
const CALL_UNKNOWN_MS = 30_000

/**
 * Calls the user of a session on the phone. The participant that LiveKit creates is the user for this session by its sid,
 * which LiveKit assigns and no one else can choose. Unlike `agentRoute` it needs a user who is not in the room.
 */
export function callRoutes({ tokens, sessions, store, livekit, background, limits, config }: CallRoutesDeps) {
  const { clock, agents, audit } = store

  /** Compare-and-swap: one request at a time goes on to ask LiveKit. The event is what the same key stored before. */
  async function claim(id: string, caller: Caller, key: IdempotencyKey | null): Promise<Session | SessionEvent> {
    const outcome = await store.sessions.change<Session | SessionEvent | AppError>({ session: id, key }, ([known]) => {
      if (!known) return { result: notLive('ended') }
      if (!isAgentOf(known.session, caller)) return { result: notSessionsAgent() }
      const replayed = replayOf(known, key)
      if (replayed) return { result: replayed === 'key_reused' ? keyReused() : replayed }
      const at = clock.steady()
      const refusal = refusalOf(known, at)
      if (refusal) return { result: refusal }
      const changed = change(known, { callingSince: at })
      return { changed: [changed], result: changed.session }
    })
    if (outcome instanceof AppError) throw outcome
    return outcome
  }

  const release = ({ id }: Session) =>
    store.sessions.change({ session: id }, ([known]) => ({
      changed: known ? [change(known, { callingSince: null })] : [],
      result: undefined,
    }))

  /** After a failure the phone may ring nevertheless, in a room that knows nothing of its user. False if it still may. */
  async function hangUp({ room, userId }: Session): Promise<boolean> {
    try {
      const holder = await livekit.getParticipant(room, userId)
      if (holder?.isSip) await livekit.removeParticipant(room, userId, clock.now())
      return true
    } catch {
      return false
    }
  }

  /** The sid of the phone that rings. */
  async function dial(trunkId: string, session: Session, to: string): Promise<string> {
    const { id, room, userId: identity } = session
    let mayRing = false
    try {
      // LiveKit would disconnect the current holder of the identity, such as the user in another session in this room.
      const holder = await livekit.getParticipant(room, identity)
      if (holder) throw holder.isSip ? callInProgress() : userJoined()
      mayRing = true
      const attributes = { sessionId: id, userId: identity }
      const maxSeconds = config.maxSessionMinutes * 60
      return await livekit.createSipParticipant({ trunkId, to, room, identity, attributes, maxSeconds })
    } catch (error) {
      // Without an answer LiveKit may yet dial: then the claim stays.
      if (mayRing) mayRing = !(await hangUp(session)) || codeOf(error) !== 'call_failed'
      throw error
    } finally {
      if (!mayRing) await release(session)
    }
  }

  /** @throws AppError */
  async function place(sessionId: string, caller: Caller, to: string, key: IdempotencyKey | null) {
    const { sipTrunkId } = config
    if (sipTrunkId === undefined) {
      throw new AppError('calls_disabled', 'This service has no SIP trunk: set SIP_TRUNK_ID.')
    }
    const claimed = await claim(sessionId, caller, key)
    if ('seq' in claimed) return { event: claimed, outcome: 'replayed' }
    const sid = await dial(sipTrunkId, claimed, to)
    const { session, events } = await store.sessions.change<Pick<Changed, 'session' | 'events'>>(
      { session: sessionId, key },
      ([known]) => {
        const placed = { phoneSid: sid, callingSince: null }
        if (!known) return { result: { session: { ...claimed, ...placed }, events: [] } }
        // Another request may have used the key meanwhile. The phone rings all the same.
        const report = { agentId: caller.id, type: 'session.call', data: { to }, key: known.answered ? null : key }
        // It may have ended meanwhile, and nothing comes after the event of the end.
        const more = known.facts.end ? {} : reported(known, report, clock.now())
        const changed = change(known, placed, more)
        return { changed: [changed], result: changed }
      },
    )
    const [event] = events
    if (!event) {
      background.run('remove', () => sessions.removal.remove(session))
      throw notLive('ended')
    }
    // While the phone rings, so that the agent is there when it is answered.
    background.run('dispatch', () => sessions.dispatcher.ensure(session, sid))
    return { event, outcome: 'allowed' }
  }

  return createRouter<AgentEnv>().openapi(
    createRoute({
      method: 'post',
      path: '/sessions/{id}/call',
      operationId: 'callUser',
      tags: ['Agents'],
      summary: 'Call the user of a session on the phone',
      security: [{ agentToken: ['calls:place'] }],
      parameters: [IDEMPOTENCY_KEY_HEADER],
      middleware: [
        agentGuard(tokens, agents, 'calls:place'),
        limitRate<AgentEnv>(limits.agentRequests, (c) => c.var.agent.id),
        limitRate<AgentEnv>(limits.agentCalls, (c) => c.var.agent.id),
        limitBody(MAX_BODY_BYTES),
        jsonBody,
      ] as const,
      request: {
        params: z.object({ id: Pair.shape.sessionId }),
        body: { required: true, content: jsonContent(CallRequest) },
      },
      responses: {
        201: {
          description:
            'The phone rings; the event `session.call` is stored. The same answer for a repeated Idempotency-Key.',
          content: jsonContent(StoredResponse),
        },
        ...problems(
          ...agentGuardRefusals,
          ...jsonBodyRefusals,
          ...KEY_REFUSALS,
          'rate_limited',
          'session_mismatch',
          'not_sessions_agent',
          'session_ended',
          'user_joined',
          'call_in_progress',
          'calls_disabled',
          'call_failed',
          'livekit_unavailable',
        ),
      },
    }),
    async (c) => {
      const { agent } = c.var
      const { id } = c.req.valid('param')
      const { userId, to } = c.req.valid('json')
      const decided = (outcome: string, sessionId: string | null = id) =>
        audit.record({ sessionId, agentId: agent.id, route: 'POST /sessions/:id/call', outcome, at: clock.now() })
      const session = await store.sessions.find(id)
      if (session?.userId !== userId) {
        await decided('session_mismatch', null)
        throw mismatch()
      }
      try {
        const { event, outcome } = await place(id, agent, to, await idempotencyKey(c))
        await decided(outcome)
        return c.json(stored(session, event), 201)
      } catch (error) {
        await decided(codeOf(error))
        throw error
      }
    },
  )
}

/** Why the user may not be called on the phone for this session; null when they may, unless LiveKit has them in the room. */
function refusalOf({ session: { phoneSid, callingSince }, facts }: Known, at: number): AppError | null {
  if (facts.end) return notLive('ended')
  if (phoneSid === null && statusOf(facts) !== 'pending') return userJoined()
  return callingSince !== null && at - callingSince < CALL_UNKNOWN_MS ? callInProgress() : null
}

const notSessionsAgent = () =>
  new AppError('not_sessions_agent', 'The session names another agent or none, and this one lacks sessions:any.')

const userJoined = () => new AppError('user_joined', 'The user has joined without a phone, or is in the room.')

/** An unanswered call may be over after that time. */
const callInProgress = () =>
  new AppError('call_in_progress', 'The user’s phone rings, or the user is on it.', { retryAfterSeconds: 30 })
