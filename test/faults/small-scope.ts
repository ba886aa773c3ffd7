import { apply, type Fact, isConfirmed, statusOf, timeOf } from '../../src/sessions/lifecycle.ts'
import { answerFor } from '../../src/sessions/participants.ts'
import type { SessionFacts } from '../../src/store/sessions.ts'
import {
  difference,
  type Evidence,
  endDifference,
  type Judged,
  LEEWAY_MS,
  LIMIT_MS,
  LIVENESS_MS,
  NO_EVIDENCE,
  RECONNECT_MS,
  settledDifference,
  TOKEN_MS,
} from './lifecycle-oracle.ts'
import { isActive, type Leg, moves, NOBODY, present, roomSid, type Truth } from './livekit-model.ts'

const RULES = { reconnectMs: RECONNECT_MS, maxSessionMs: LIMIT_MS }
const START = 1000
const TOKEN_EXPIRES_AT = START + TOKEN_MS
const SECOND = 1000
/** A little past each deadline: liveness, reconnect, the longest session, the join token. */
const JUMPS = [LIVENESS_MS, RECONNECT_MS, LIMIT_MS, TOKEN_MS + LEEWAY_MS].map((ms) => ms + SECOND)
/** The reconciler's and the guard's: either may be under way while the other comes back. */
const MAX_QUESTIONS = 2
const OURS = { id: 'sess_ours', userId: 'user_1', phoneSid: null }

/** A request in flight, with the participants that LiveKit listed at its start. */
export interface Question {
  askedAt: number
  listed: Leg | null
}

export interface State {
  now: number
  truth: Truth
  /** By sid's index. */
  evidence: readonly Evidence[]
  finishedKnown: readonly number[]
  questions: readonly Question[]
  lastThere: number | null
  facts: SessionFacts
  /** How it came about, for the report. */
  path: Path | null
}

interface Path {
  step: string
  before: Path | null
}

export const INITIAL: State = {
  now: START,
  truth: NOBODY,
  evidence: [],
  finishedKnown: [],
  questions: [],
  lastThere: null,
  facts: { tokenExpiresAt: TOKEN_EXPIRES_AT, end: null, presences: [], finishedRooms: new Map() },
  path: null,
}

/**
 * Every fact that can come next, one step each: something happens in LiveKit, and is told at once or not yet; a webhook
 * about anything that ever happened arrives, late or again; LiveKit is asked and answers at once, or later; the session is
 * ended; the service restarts; time passes a deadline.
 */
export function* next(state: State, tickMs: number): Generator<State> {
  const { truth, questions } = state
  const now = state.now + tickMs
  for (const moved of moves(truth, now)) {
    const silent: State = { ...passed(state, now, 'LiveKit'), truth: moved, lastThere: thereAt(state, moved, now) }
    yield silent
    yield newsOf(truth, moved).reduce((known, news) => afterFact(known, now, ...hearing(known, news, now)), silent)
  }
  for (const news of newsOf(NOBODY, truth)) yield afterFact(state, now, ...hearing(state, news, now))

  const question = { askedAt: now, listed: present(truth) ?? null }
  yield afterFact(state, now, answerOf(question), answered(state, question))
  if (questions.length < MAX_QUESTIONS && questions.at(-1)?.askedAt !== now) {
    yield { ...passed(state, now, 'ask'), questions: [...questions, question] }
  }
  for (const [i, asked] of questions.entries()) {
    yield afterFact(state, now, answerOf(asked), { ...answered(state, asked), questions: questions.toSpliced(i, 1) })
  }
  // What was asked dies with the process; what is known is in the store.
  if (questions.length > 0) yield { ...passed(state, now, 'restart'), questions: [] }
  if (!state.facts.end) yield afterFact(state, now, { kind: 'end', reason: 'user', at: now })
  for (const jump of JUMPS) yield afterFact(state, now + jump, { kind: 'clock', at: now + jump })
}

type News = { event: 'joined' | 'left'; leg: number } | { event: 'finished'; room: number }

/** The webhooks that LiveKit sends between two moments, about our session and its room. */
function newsOf(before: Truth, since: Truth): News[] {
  const news: News[] = []
  for (const [leg, { whose, phase }] of since.legs.entries()) {
    if (whose === 'other' || before.legs[leg]?.phase === phase) continue
    if (phase === 'gone' || phase === 'aborted') news.push({ event: 'left', leg })
    if (phase === 'active' || (phase === 'gone' && !before.legs[leg])) news.push({ event: 'joined', leg })
  }
  for (const room of since.finished) if (!before.finished.includes(room)) news.push({ event: 'finished', room })
  return news
}

/** A webhook as a fact, and the oracle's own account of it. */
function hearing({ truth, evidence, finishedKnown }: State, news: News, at: number): [Fact, Partial<State>] {
  if (news.event === 'finished') {
    const fact: Fact = { kind: 'room_finished', roomSid: roomSid(news.room), at }
    return [fact, { finishedKnown: [...new Set([...finishedKnown, news.room])].sort() }]
  }
  const leg = truth.legs[news.leg]
  if (!leg) throw new Error('There is no such leg')
  const known = evidence[news.leg] ?? NO_EVIDENCE
  const aborted = leg.phase === 'aborted'
  const where = { sid: leg.sid, roomSid: roomSid(leg.room), at }
  const first = aborted ? known.first : (known.first ?? at)
  const heard =
    news.event === 'joined'
      ? { ...known, first, last: at, roomKnown: true, run: 0 }
      : { ...known, first, left: true, roomKnown: true }
  const account = { evidence: truth.legs.map((_, i) => (i === news.leg ? heard : (evidence[i] ?? NO_EVIDENCE))) }
  if (news.event === 'joined') return [{ kind: 'joined', ...where }, account]
  return [{ kind: 'left', ...where, reason: '1', aborted }, account]
}

function answerOf({ askedAt, listed }: Question): Extract<Fact, { kind: 'answer' }> {
  const participant = listed && {
    sid: listed.sid,
    identity: OURS.userId,
    attributes: { sessionId: listed.whose === 'ours' ? OURS.id : 'sess_other' },
    isStandard: true,
    isSip: false,
    isAgent: false,
    isActive: listed.phase === 'active',
  }
  return answerFor(OURS, participant ? [participant] : [], askedAt) as Extract<Fact, { kind: 'answer' }>
}

/** The oracle's own account of an answer. */
function answered({ truth, evidence }: State, { askedAt, listed }: Question): Partial<State> {
  return { evidence: truth.legs.map((leg, i) => withAnswer(evidence[i] ?? NO_EVIDENCE, askedAt, leg, listed)) }
}

function withAnswer(evidence: Evidence, askedAt: number, { sid, whose }: Leg, listed: Leg | null): Evidence {
  const { first, last, listedAt, absents, run } = evidence
  if (listed?.sid === sid && listed.phase === 'active' && whose === 'ours') {
    const times = { first: Math.min(first ?? askedAt, askedAt), last: Math.max(last ?? askedAt, askedAt) }
    return { ...evidence, ...times, listedAt: Math.max(listedAt ?? askedAt, askedAt), run: 0 }
  }
  if (listed?.sid === sid || first === null || absents.includes(askedAt)) return evidence
  if (askedAt < (last ?? first)) return evidence
  const inTurn = askedAt > Math.max(last ?? first, ...absents)
  return { ...evidence, absents: [...absents, askedAt].slice(-2), run: inTurn ? Math.min(2, run + 1) : run }
}

const after = (state: State, step: string, at: number): Path => ({ step: `${at} ${step}`, before: state.path })

const thereAt = ({ truth, lastThere }: State, since: Truth, now: number) =>
  isActive(truth) || isActive(since) ? now : lastThere

const passed = (state: State, now: number, step: string): State => ({
  ...state,
  now,
  lastThere: thereAt(state, state.truth, now),
  path: after(state, step, now),
})

/** The state after a fact, with the oracle's own account of it; an end that was not requested is judged at once. */
function afterFact(state: State, now: number, fact: Fact, account: Partial<State> = {}): State {
  const known = apply(state.facts, fact, RULES)
  const next: State = { ...passed(state, now, JSON.stringify(fact)), ...account, facts: known }
  if (known.end && !state.facts.end && fact.kind !== 'end') {
    const listed = fact.kind === 'answer' && fact.present.length + fact.joining.length > 0
    const { truth } = state
    const what = endDifference({
      truth,
      evidence: next.evidence,
      end: known.end,
      at: timeOf(fact),
      listed,
      tokenExpiresAt: TOKEN_EXPIRES_AT,
    })
    if (what) throw wrong(next, what)
  }
  return next
}

/** Compares what the service knows and allows with what the truth allows, and where further answers lead. */
export function judge(state: State): void {
  const { now, truth, facts } = state
  const before = judged(facts, now)
  const what = difference({ ...state, accepted: before.accepted })
  if (what) throw wrong(state, what)
  const ask = (known: SessionFacts, askedAt: number) =>
    apply(known, answerOf({ askedAt, listed: present(truth) ?? null }), RULES)
  const one = ask(facts, now + 1)
  const two = ask(one, now + 2)
  const late = now + TOKEN_MS + LEEWAY_MS
  const afterDeadline = judged(ask(two, late), late)
  const settled = { before, afterOne: judged(one, now + 1), afterTwo: judged(two, now + 2), afterDeadline }
  const then = settledDifference(truth, state.evidence, settled)
  if (then) throw wrong(state, then)
}

const judged = (facts: SessionFacts, now: number): Judged => ({
  accepted: facts.end === null && isConfirmed(facts, { since: now - LIVENESS_MS, until: now }),
  status: statusOf(facts),
  end: facts.end,
})

const steps = (path: Path | null): string[] => (path ? [...steps(path.before), path.step] : [])

function wrong(state: State, what: string): Error {
  const legs = state.truth.legs.map(({ sid, whose, room, phase }) => `${sid} ${whose} in ${roomSid(room)} ${phase}`)
  return new Error(`${what}\n  LiveKit: ${legs.join('; ')}\n  ${steps(state.path).join('\n  ')}`)
}
