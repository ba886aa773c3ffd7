import { setTimeout as delay } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import type { LiveKit } from '../livekit/livekit.ts'
import { answerFor } from '../sessions/evidence.ts'
import type { FollowUp } from '../sessions/follow-up.ts'
import { type Answered, apply, openPresences, type Rules, type SessionFacts } from '../sessions/lifecycle.ts'
import type { Session, SessionStore } from '../sessions/store.ts'
import { singleFlight } from '../single-flight.ts'

/** Three outcomes, never two: not knowing is neither live nor absent. */
export type Liveness = 'live' | 'absent' | 'unknown' | 'ended'

export interface LivenessDeps {
  sessions: SessionStore
  livekit: LiveKit
  followUp: FollowUp
  rules: Rules
  /** How long LiveKit's confirmation counts. */
  livenessMs: number
  now: () => number
}

interface Answer {
  liveness: Liveness
  askedAt: number
}

/** How long a negative answer is reused. */
const NEGATIVE_MS = 1000
/** A "not there" this soon after a join may be LiveKit's store lagging behind: it is asked again. */
const FRESH_JOIN_MS = 10_000
const RETRY_PAUSES_MS = [100, 250, 500]
/** No further question is begun this long after the first one. */
const QUESTION_BUDGET_MS = 2000
/** Questions under way at once, over all sessions. */
const MAX_QUESTIONS = 128

/** Whether the session's user is in its room now, by LiveKit's own word. */
export function livenessCheck({ sessions, livekit, followUp, rules, livenessMs, now }: LivenessDeps) {
  const oncePerSession = singleFlight<Answer>()
  const negatives = new Map<string, Answer>()
  let questions = 0

  return async function check(id: string): Promise<Liveness> {
    const known = await sessions.findWithFacts(id)
    if (!known || known.facts.end) return 'ended'
    if (apply(known.facts, { kind: 'clock', at: now() }, rules).end) {
      const change = await sessions.record(id, { kind: 'clock', at: now() }, rules)
      if (change) followUp(change)
      return 'ended'
    }
    if (isConfirmed(known.facts, now() - livenessMs, now())) return 'live'
    const negative = negatives.get(id)
    if (negative && stillHolds(negative, known.facts)) return negative.liveness
    return (await oncePerSession(id, () => ask(known.session))).liveness
  }

  function stillHolds({ askedAt }: Answer, facts: SessionFacts): boolean {
    const joinedSince = openPresences(facts).some(({ seenAt }) => seenAt !== null && seenAt >= askedAt)
    return isRecent(askedAt) && !joinedSince
  }

  /** A clock that was set back has left answers in the future: those count for nothing. */
  function isRecent(askedAt: number): boolean {
    return askedAt <= now() && now() - askedAt < NEGATIVE_MS
  }

  async function ask(session: Session): Promise<Answer> {
    if (questions >= MAX_QUESTIONS) return { liveness: 'unknown', askedAt: now() }
    questions++
    try {
      return await askUntilConsistent(session)
    } catch (error) {
      if (error instanceof AppError && error.code === 'livekit_unavailable') {
        return { liveness: 'unknown', askedAt: now() }
      }
      throw error
    } finally {
      questions--
    }
  }

  async function askUntilConsistent(session: Session): Promise<Answer> {
    const startedAt = performance.now()
    for (const pause of [...RETRY_PAUSES_MS, null]) {
      const askedAt = now()
      const participant = await livekit.getParticipant(session.room, session.userId)
      // Read after the answer: a webhook may have told meanwhile why nobody is there.
      const known = await sessions.findWithFacts(session.id)
      if (participant || !known || !isFreshlyJoined(known.facts, askedAt)) {
        const fact = answerFor(session, participant ? [participant] : [], askedAt)
        const change = await sessions.record(session.id, fact, rules)
        if (change) followUp(change)
        return remember(session.id, livenessOf(change?.facts, fact), askedAt)
      }
      if (pause === null || performance.now() - startedAt + pause > QUESTION_BUDGET_MS) break
      await delay(pause)
    }
    return { liveness: 'unknown', askedAt: now() }
  }

  function livenessOf(facts: SessionFacts | undefined, { askedAt, present }: Answered): Liveness {
    if (!facts || facts.end) return 'ended'
    const isThere = openPresences(facts).some(({ sid, misses }) => misses === 0 && present.includes(sid))
    return isThere || isConfirmed(facts, askedAt, now()) ? 'live' : 'absent'
  }

  function remember(id: string, liveness: Liveness, askedAt: number): Answer {
    const answer = { liveness, askedAt }
    negatives.delete(id)
    if (liveness === 'absent') {
      // Oldest first, so the expired ones are at the front.
      for (const [old, { askedAt: at }] of negatives) {
        if (isRecent(at)) break
        negatives.delete(old)
      }
      negatives.set(id, answer)
    }
    return answer
  }
}

export type LivenessCheck = ReturnType<typeof livenessCheck>

/** An open presence that LiveKit listed since, and has not missed after that; not later than `now`: the clock was set back then. */
export const isConfirmed = (facts: SessionFacts, since: number, now = Number.POSITIVE_INFINITY): boolean =>
  openPresences(facts).some(
    ({ misses, confirmedAt }) => misses === 0 && confirmedAt !== null && confirmedAt >= since && confirmedAt <= now,
  )

/** A join that a webhook told of just now, and that LiveKit was not asked about yet. */
const isFreshlyJoined = (facts: SessionFacts, at: number): boolean =>
  openPresences(facts).some((p) => p.confirmedAt === null && p.joinedAt !== null && at - p.joinedAt < FRESH_JOIN_MS)
