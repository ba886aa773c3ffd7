import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import type { LiveKit } from '../livekit/livekit.ts'
import type { IdempotencyKey, Known, Session, SessionEvent, SessionStore } from '../store/sessions.ts'
import type { Background } from './background.ts'
import { type Caller, change, isAgentOf, replayOf, reported, statusOf } from './lifecycle.ts'
import type { Sessions } from './sessions.ts'

/** For how long no second call is placed when LiveKit's answer to the first was lost: the phone may ring. */
const CALL_UNKNOWN_MS = 30_000

export type CallRefusal = 'not_sessions_agent' | 'ended' | 'user_joined' | 'call_in_progress'

interface CallsDeps {
  sessions: Pick<Sessions, 'dispatcher' | 'removal'>
  store: SessionStore
  livekit: LiveKit
  background: Background
  clock: Clock
  /** LiveKit's outbound trunk; there are no calls without one. */
  trunkId: string | undefined
  maxSeconds: number
}

interface CallRequest {
  caller: Caller
  /** E.164. */
  to: string
  key: IdempotencyKey | null
}

interface Placed {
  event: SessionEvent
  /** Whether its Idempotency-Key had placed it before. */
  isReplay: boolean
}

/** @throws AppError `calls_disabled`, `call_failed` or `livekit_unavailable` */
export type PlaceCall = (sessionId: string, request: CallRequest) => Promise<Placed | CallRefusal | 'key_reused'>

/**
 * Calls a session's user on the phone. The participant that LiveKit creates is the user for this session by its sid,
 * which LiveKit assigns and no one else can choose.
 */
export function createCalls(deps: CallsDeps): PlaceCall {
  const { sessions, store, livekit, background, clock, trunkId, maxSeconds } = deps

  /** Compare-and-swap: one request at a time goes on to ask LiveKit. */
  const claim = (id: string, { caller, key }: CallRequest) =>
    store.change<Session | Placed | CallRefusal | 'key_reused'>({ session: id, key }, ([known]) => {
      if (!known) return { result: 'ended' }
      const at = clock.steady()
      const refusal = callRefusalOf(known, caller, at)
      if (refusal === 'not_sessions_agent') return { result: refusal }
      const replayed = replayOf(known, key)
      if (replayed === 'key_reused') return { result: replayed }
      if (replayed) return { result: { event: replayed, isReplay: true } }
      if (refusal) return { result: refusal }
      const changed = change(known, { callingSince: at })
      return { changed: [changed], result: changed.session }
    })

  const release = ({ id }: Session) =>
    store.change({ session: id }, ([known]) => ({
      changed: known ? [change(known, { callingSince: null })] : [],
      result: undefined,
    }))

  /** After a failure the phone may ring nevertheless, in a room that knows nothing of its user. */
  async function hangUp({ room, userId }: Session): Promise<void> {
    const holder = await livekit.getParticipant(room, userId)
    if (holder?.isSip) await livekit.removeParticipant(room, userId, clock.now())
  }

  async function dial(trunkId: string, session: Session, to: string): Promise<{ sid: string } | CallRefusal> {
    const { id, room, userId: identity } = session
    let mayRing = false
    try {
      // LiveKit would disconnect the current holder of the identity, such as the user in another session in this room.
      const holder = await livekit.getParticipant(room, identity)
      if (holder) return holder.isSip ? 'call_in_progress' : 'user_joined'
      mayRing = true
      const attributes = { sessionId: id, userId: identity }
      return { sid: await livekit.createSipParticipant({ trunkId, to, room, identity, attributes, maxSeconds }) }
    } catch (error) {
      if (mayRing) {
        const isOut = await hangUp(session).then(
          () => true,
          () => false,
        )
        // Without an answer LiveKit may yet dial: then the claim stays.
        mayRing = !(isOut && error instanceof AppError && error.code === 'call_failed')
      }
      throw error
    } finally {
      if (!mayRing) await release(session)
    }
  }

  return async function place(sessionId, request) {
    if (trunkId === undefined) throw new AppError('calls_disabled', 'This service has no SIP trunk: set SIP_TRUNK_ID.')
    const claimed = await claim(sessionId, request)
    if (typeof claimed === 'string' || 'event' in claimed) return claimed
    const { to, key, caller } = request
    const dialled = await dial(trunkId, claimed, to)
    if (typeof dialled === 'string') return dialled
    const { sid } = dialled
    const { session, events } = await store.change({ session: sessionId }, ([known]) => {
      if (!known) throw new Error('The session was deleted while LiveKit placed its call')
      const phone = { phoneSid: sid, callingSince: null }
      const report = { agentId: caller.id, type: 'session.call', data: { to }, key }
      // It may have ended meanwhile, and nothing comes after the event of the end.
      const more = known.facts.end ? {} : reported(known, report, clock.now())
      const changed = change(known, phone, more)
      return { changed: [changed], result: changed }
    })
    const [event] = events
    if (!event) {
      background.run('remove', () => sessions.removal.remove(session))
      return 'ended'
    }
    // While the phone rings, so that the agent is there when it is answered.
    background.run('dispatch', () => sessions.dispatcher.ensure(session, sid))
    return { event, isReplay: false }
  }
}

/** Why the user may not be called on the phone for this session; null when they may, unless LiveKit has them in the room. */
function callRefusalOf({ session, facts }: Known, caller: Caller, at: number): CallRefusal | null {
  if (!isAgentOf(session, caller)) return 'not_sessions_agent'
  if (facts.end) return 'ended'
  const { phoneSid, callingSince } = session
  if (phoneSid === null && statusOf(facts) !== 'pending') return 'user_joined'
  return callingSince !== null && at - callingSince < CALL_UNKNOWN_MS ? 'call_in_progress' : null
}
