import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import type { LiveKit } from '../livekit/livekit.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { Known, SessionFacts, SessionStore } from '../store/sessions.ts'
import { type Answer, apply, isConfirmed, openPresences, type Rules } from './lifecycle.ts'
import { answerFor } from './participants.ts'
import type { Sessions } from './sessions.ts'

/** `unknown` is an outcome of its own: it counts neither as live nor as absent. */
type Liveness = 'live' | 'absent' | 'unknown' | 'ended'

/** Seconds until a retry makes sense. */
const RETRY_SECONDS = 2

/** Why an agent is refused: `session_ended`, `session_not_live` or `liveness_unknown`. */
export function notLive(outcome: Exclude<Liveness, 'live'>): AppError {
  const later = { retryAfterSeconds: RETRY_SECONDS }
  switch (outcome) {
    case 'ended':
      return new AppError('session_ended', 'The session has ended: stop calling.')
    case 'absent':
      return new AppError('session_not_live', 'The user is not in the room now.', later)
    case 'unknown':
      return new AppError('liveness_unknown', 'LiveKit could not say whether the user is in the room.', later)
  }
}

interface LivenessDeps {
  sessions: Sessions
  store: SessionStore
  livekit: LiveKit
  rules: Rules
  /** How long LiveKit's confirmation stays valid. */
  livenessMs: number
  clock: Clock
}

/** The outcome, with what is known of the session afterwards. */
interface Checked {
  liveness: Liveness
  known: Known
}

interface Asked extends Checked {
  /** `steady`. */
  askedAt: number
}

/** Whether LiveKit itself says that the session's user is in the room now. */
export type LivenessCheck = (known: Known) => Promise<Checked>

/** How long a negative answer is reused. */
const NEGATIVE_MS = 1000
/** A "not there" this soon after a join may be LiveKit's store lagging behind: ask again. */
const FRESH_JOIN_MS = 10_000
const RETRY_PAUSES_MS = [100, 250, 500]
/** No query starts later than this after the first one. */
const QUERY_BUDGET_MS = 2000
/** Concurrent queries to LiveKit, over all sessions. */
const MAX_QUERIES = 128

export function createLivenessCheck(deps: LivenessDeps): LivenessCheck {
  const { sessions, store, livekit, rules, livenessMs, clock } = deps
  const oncePerSession = createSingleFlight<Asked>()
  const negatives = new Map<string, Asked>()
  let queries = 0
  const isRecent = (askedAt: number) => clock.steady() - askedAt < NEGATIVE_MS
  const unknown = (known: Known): Asked => ({ liveness: 'unknown', known, askedAt: clock.steady() })

  return async function check(known) {
    const { id } = known.session
    if (known.facts.end) return { liveness: 'ended', known }
    const tick = { kind: 'clock', at: clock.steady() } as const
    if (apply(known.facts, tick, rules).end) {
      return { liveness: 'ended', known: (await sessions.observe({ known }, tick)) ?? known }
    }
    if (isConfirmed(known.facts, clock.fresh(livenessMs))) return { liveness: 'live', known }
    const negative = negatives.get(id)
    if (negative && stillHolds(negative, known.facts)) return { liveness: negative.liveness, known }
    return oncePerSession(id, () => ask(known))
  }

  function stillHolds({ askedAt }: Asked, facts: SessionFacts): boolean {
    const joinedSince = openPresences(facts).some(({ seenAt }) => seenAt !== null && seenAt >= askedAt)
    return isRecent(askedAt) && !joinedSince
  }

  async function ask(known: Known): Promise<Asked> {
    if (queries >= MAX_QUERIES) return unknown(known)
    queries++
    try {
      return await askUntilConsistent(known)
    } catch (error) {
      if (error instanceof AppError && error.code === 'livekit_unavailable') return unknown(known)
      throw error
    } finally {
      queries--
    }
  }

  async function askUntilConsistent(known: Known): Promise<Asked> {
    const { session } = known
    const startedAt = performance.now()
    for (const pause of [...RETRY_PAUSES_MS, null]) {
      const askedAt = clock.steady()
      const participant = await livekit.getParticipant(session.room, session.userId)
      // Read after the answer: a webhook may meanwhile have reported that the user left.
      const facts = participant ? null : (await store.load(session.id))?.facts
      if (!facts || !isFreshlyJoined(facts, askedAt)) {
        const answer = answerFor(session, participant ? [participant] : [], askedAt)
        const changed = await sessions.observe({ known }, answer)
        return remember(session.id, { liveness: livenessOf(changed, answer), known: changed ?? known, askedAt })
      }
      if (pause === null || performance.now() - startedAt + pause > QUERY_BUDGET_MS) break
      await delay(pause)
    }
    return unknown(known)
  }

  function livenessOf(known: Known | null, { present }: Answer): Liveness {
    if (!known || known.facts.end) return 'ended'
    if (isConfirmed(known.facts, clock.fresh(livenessMs))) return 'live'
    // An answer is as old as its query: a "there" that took longer than `livenessMs` does not prove presence now.
    const wasThere = openPresences(known.facts).some(({ sid, misses }) => misses === 0 && present.includes(sid))
    return wasThere ? 'unknown' : 'absent'
  }

  function remember(id: string, asked: Asked): Asked {
    negatives.delete(id)
    if (asked.liveness === 'absent') {
      // Oldest first, so the expired ones are at the front.
      for (const [old, { askedAt }] of negatives) {
        if (isRecent(askedAt)) break
        negatives.delete(old)
      }
      negatives.set(id, asked)
    }
    return asked
  }
}

/** A join that a webhook has just reported and that LiveKit's API has not confirmed yet. */
const isFreshlyJoined = (facts: SessionFacts, at: number): boolean =>
  openPresences(facts).some((p) => p.confirmedAt === null && p.joinedAt !== null && at - p.joinedAt < FRESH_JOIN_MS)
