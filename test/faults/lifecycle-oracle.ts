import { openPresences, statusOf } from '../../src/sessions/lifecycle.ts'
import type { SessionFacts } from '../../src/store/sessions.ts'
import { isActive, type Leg, type Truth } from './livekit-model.ts'

export const LIVENESS_MS = 10_000
export const RECONNECT_MS = 60_000
export const LIMIT_MS = 500_000
export const TOKEN_MS = 900_000
export const LEEWAY_MS = 60_000
/** Times within one step of the clock differ by less. */
const SLACK_MS = 1000

/** What the service has learned about one sid, in the oracle's own simple form. */
export interface Evidence {
  /** First and newest time of evidence that it was in the room. */
  first: number | null
  last: number | null
  left: boolean
  /** A webhook named its room. */
  roomKnown: boolean
  /** Start of the newest question that was answered with it. */
  listedAt: number | null
  /** The last two answers without it, each requested after the newest evidence known at that time. */
  absents: readonly number[]
  /** How many of them in a row were each asked after everything known before. */
  run: number
}

export const NO_EVIDENCE: Evidence = {
  first: null,
  last: null,
  left: false,
  roomKnown: false,
  listedAt: null,
  absents: [],
  run: 0,
}

export interface View {
  now: number
  truth: Truth
  /** By sid's index. */
  evidence: readonly Evidence[]
  finishedKnown: readonly number[]
  /** When LiveKit last had the session's user active. */
  lastThere: number | null
  facts: SessionFacts
  accepted: boolean
}

/** What is wrong in this state, in words; undefined when the service's view agrees with what LiveKit's truth allows. */
export function difference(view: View): string | undefined {
  const { truth, evidence, finishedKnown, facts, now } = view
  const open = new Set(openPresences(facts).map(({ sid }) => sid))
  const status = statusOf(facts)
  const legs = ours(truth, evidence)

  // Two answers asked in one millisecond may contradict each other: then refusing is as right as accepting.
  const inOneMoment = legs.some(
    ({ evidence }) => evidence.listedAt !== null && evidence.absents.includes(evidence.listedAt),
  )
  if (view.accepted && !mayCall(view, legs)) return 'a callback is accepted that must not be'
  if (!view.accepted && mayCall(view, legs) && !inOneMoment) return 'a callback is refused in vain'
  if (view.accepted && (view.lastThere === null || now - view.lastThere > LIVENESS_MS + SLACK_MS)) {
    return 'a callback is accepted for a user who has been gone for longer than the bound'
  }
  if (facts.end) return status === 'ended' ? undefined : `ended, but ${status}`

  for (const { leg, evidence } of legs) {
    const isOpen = open.has(leg.sid)
    const known = evidence.first !== null
    if (isOpen && !known) return `${leg.sid} is open without any evidence`
    if (known && leg.phase === 'active' && !isOpen) return `${leg.sid} is in the room and known, and not open`
    const closedByWebhook = evidence.left || (evidence.roomKnown && finishedKnown.includes(leg.room))
    if (isOpen && closedByWebhook) return `${leg.sid} is open after LiveKit reported its leave`
    if (isOpen && evidence.run >= 2) return `${leg.sid} is open after two misses`
    if (known && !isOpen && !closedByWebhook && evidence.absents.length < 2) return `${leg.sid} is closed for no reason`
  }
  const everKnown = legs.some(({ evidence }) => evidence.first !== null)
  const expected = open.size > 0 ? 'live' : everKnown ? 'disconnected' : 'pending'
  return status === expected ? undefined : `${status} instead of ${expected}`
}

interface KnownLeg {
  leg: Leg
  evidence: Evidence
}

const ours = (truth: Truth, evidence: readonly Evidence[]): KnownLeg[] =>
  truth.legs.map((leg, i) => ({ leg, evidence: evidence[i] ?? NO_EVIDENCE })).filter(({ leg }) => leg.whose === 'ours')

/** The promise: a recent answer of LiveKit listed the user, and nothing since then contradicts it. */
function mayCall({ now, facts, finishedKnown }: View, legs: KnownLeg[]): boolean {
  if (facts.end) return false
  return legs.some(({ leg, evidence: { listedAt, left, roomKnown, absents } }) => {
    if (listedAt === null || listedAt < now - LIVENESS_MS) return false
    return !left && !(roomKnown && finishedKnown.includes(leg.room)) && !absents.some((at) => at > listedAt)
  })
}

/** What is wrong with an end that an answer or the clock brought about. */
export function endDifference({ end, at, truth, evidence, listed, tokenExpiresAt }: EndView): string | undefined {
  const legs = ours(truth, evidence)
  const known = legs.filter(({ evidence }) => evidence.first !== null)
  switch (end) {
    case 'left':
      if (listed) return 'ended as left by an answer that lists the user'
      if (known.length === 0) return 'ended as left, but never known to have been there'
      for (const { leg } of known) {
        if (leg.goneAt === null || at - leg.goneAt < RECONNECT_MS - SLACK_MS) {
          return `ended as left, though ${leg.sid} was there less than RECONNECT_SECONDS ago`
        }
      }
      return undefined
    case 'never_joined':
      if (listed || known.length > 0) return 'ended as never joined, though it was'
      return at >= tokenExpiresAt + LEEWAY_MS ? undefined : 'ended as never joined while its token could be used'
    case 'limit': {
      const firstKnown = Math.min(...known.map(({ evidence }) => evidence.first ?? Number.POSITIVE_INFINITY))
      return at >= firstKnown + LIMIT_MS ? undefined : 'ended at the limit before it'
    }
    default:
      return `ended as ${end} by itself`
  }
}

interface EndView extends Pick<View, 'truth' | 'evidence'> {
  end: NonNullable<SessionFacts['end']>
  /** When. */
  at: number
  /** The answer that ended it lists its user. */
  listed: boolean
  tokenExpiresAt: number
}

/** What two clean answers must lead to (one for the guard, two for the status), and a third one after every deadline. */
export function settledDifference(truth: Truth, evidence: readonly Evidence[], settled: Settled) {
  const { before, afterOne, afterTwo, afterDeadline } = settled
  const there = isActive(truth)
  const listed = ours(truth, evidence).some(({ leg }) => leg.phase === 'active' || leg.phase === 'joining')
  if (afterOne.end) {
    if (afterOne.accepted) return 'after one answer: a callback is accepted for an ended session'
    return before.end || afterOne.end === 'limit' || !listed ? undefined : `after one answer: ended as ${afterOne.end}`
  }
  if (afterOne.accepted !== there) return `after one answer: accepted ${afterOne.accepted}, there ${there}`
  const known = there || ours(truth, evidence).some((one) => one.evidence.first !== null)
  const expected = there ? 'live' : known ? 'disconnected' : 'pending'
  if (afterTwo.status !== expected) return `after two answers: ${afterTwo.status} instead of ${expected}`
  const { end } = afterDeadline
  const fine = listed ? end === null || end === 'limit' : end !== null
  return fine ? undefined : `after every deadline: ${end ?? afterDeadline.status}`
}

export interface Judged {
  accepted: boolean
  status: string
  end: string | null
}

export interface Settled {
  before: Judged
  afterOne: Judged
  afterTwo: Judged
  afterDeadline: Judged
}
