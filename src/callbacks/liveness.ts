import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import type { LiveKit } from '../livekit/livekit.ts'
import { answerFor } from '../sessions/evidence.ts'
import type { FollowUp } from '../sessions/follow-up.ts'
import {
  type Answered,
  apply,
  isConfirmed,
  openPresences,
  type Rules,
  type SessionFacts,
} from '../sessions/lifecycle.ts'
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
  clock: Clock
}

interface Answer {
  liveness: Liveness
  /** `steady`. */
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
export function livenessCheck({ sessions, livekit, followUp, rules, livenessMs, clock }: LivenessDeps) {
  const oncePerSession = singleFlight<Answer>()
  const negatives = new Map<string, Answer>()
  let questions = 0

  return async function check(id: string): Promise<Liveness> {
    const known = await sessions.findWithFacts(id)
    if (!known || known.facts.end) return 'ended'
    const tick = { kind: 'clock', at: clock.steady() } as const
    if (apply(known.facts, tick, rules).end) {
      const change = await sessions.record(id, tick, rules)
      if (change) followUp(change)
      return 'ended'
    }
    if (isConfirmed(known.facts, clock.freshSince(livenessMs))) return 'live'
    const negative = negatives.get(id)
    if (negative && stillHolds(negative, known.facts)) return negative.liveness
    return (await oncePerSession(id, () => ask(known.session))).liveness
  }

  function stillHolds({ askedAt }: Answer, facts: SessionFacts): boolean {
    const joinedSince = openPresences(facts).some(({ seenAt }) => seenAt !== null && seenAt >= askedAt)
    return isRecent(askedAt) && !joinedSince
  }

  function isRecent(askedAt: number): boolean {
    return clock.steady() - askedAt < NEGATIVE_MS
  }

  async function ask(session: Session): Promise<Answer> {
    if (questions >= MAX_QUESTIONS) return { liveness: 'unknown', askedAt: clock.steady() }
    questions++
    try {
      return await askUntilConsistent(session)
    } catch (error) {
      if (error instanceof AppError && error.code === 'livekit_unavailable') {
        return { liveness: 'unknown', askedAt: clock.steady() }
      }
      throw error
    } finally {
      questions--
    }
  }

  async function askUntilConsistent(session: Session): Promise<Answer> {
    const startedAt = performance.now()
    for (const pause of [...RETRY_PAUSES_MS, null]) {
      const askedAt = clock.steady()
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
    return { liveness: 'unknown', askedAt: clock.steady() }
  }

  function livenessOf(facts: SessionFacts | undefined, { present }: Answered): Liveness {
    if (!facts || facts.end) return 'ended'
    if (isConfirmed(facts, clock.freshSince(livenessMs))) return 'live'
    // An answer is as old as its question: "there" that took longer than it counts does not say who is there now.
    const wasThere = openPresences(facts).some(({ sid, misses }) => misses === 0 && present.includes(sid))
    return wasThere ? 'unknown' : 'absent'
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

/** A join that a webhook told of just now, and that LiveKit was not asked about yet. */
const isFreshlyJoined = (facts: SessionFacts, at: number): boolean =>
  openPresences(facts).some((p) => p.confirmedAt === null && p.joinedAt !== null && at - p.joinedAt < FRESH_JOIN_MS)
