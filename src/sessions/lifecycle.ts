// The rules of a session's life: pure, and independent of the order in which facts arrive. Times are the store clock's
// `steady`, milliseconds that never go back; nothing here reads a clock.

import type { Fresh } from '../clock.ts'
import type { Agent } from '../store/agents.ts'
import type {
  Answered,
  Changed,
  EndReason,
  IdempotencyKey,
  Known,
  Presence,
  Session,
  SessionAgent,
  SessionEvent,
  SessionFacts,
  Status,
} from '../store/sessions.ts'

export type Fact =
  /** Webhook participant_joined: media is up. */
  | { kind: 'joined'; sid: string; roomSid: string; at: number }
  /** Webhook participant_left, or participant_connection_aborted (`aborted`: it never joined). */
  | { kind: 'left'; sid: string; roomSid: string; at: number; reason: string; aborted: boolean }
  /** Webhook room_finished: closes every presence of that room sid. */
  | { kind: 'room_finished'; roomSid: string; at: number }
  /** LiveKit's successful answer to the service's own query, stamped with the query's start. */
  | { kind: 'answer'; askedAt: number; present: readonly string[]; joining: readonly string[] }
  /** Only the time: it can end a session by itself. */
  | { kind: 'clock'; at: number }
  | { kind: 'end'; reason: EndReason; at: number }

export type Answer = Extract<Fact, { kind: 'answer' }>

export interface Rules {
  /** How long every presence must have been closed before the absence ends the session. */
  reconnectMs: number
  /** How long a session may last from its first join; no limit when absent. */
  maxSessionMs?: number
}

/** LiveKit accepts a join token up to a minute past its `exp`. */
const JOIN_TOKEN_LEEWAY_MS = 60_000
/** Closed presences that are kept: one join token lets a client open and drop any number of connections. */
const MAX_CLOSED = 50
/** An absence inferred from answers closes a presence only at the second miss. */
const MISSES_TO_CLOSE = 2

export function statusOf(facts: SessionFacts): Status {
  if (facts.end) return 'ended'
  const joined = facts.presences.filter((presence) => presence.joinedAt !== null)
  if (joined.length === 0) return 'pending'
  return joined.some((presence) => closedAt(presence, facts) === null) ? 'live' : 'disconnected'
}

/** The open presences: joined, not left, not missing twice, their room not finished. */
export const openPresences = (facts: SessionFacts): Presence[] =>
  facts.presences.filter((presence) => presence.joinedAt !== null && closedAt(presence, facts) === null)

/** When the presence was closed, or null while it is not. */
function closedAt(presence: Presence, { finishedRooms }: SessionFacts): number | null {
  const finishedAt = presence.roomSid === null ? undefined : finishedRooms.get(presence.roomSid)
  const missedAt = presence.misses >= MISSES_TO_CLOSE ? presence.missedAt : null
  const times = [presence.leftAt, finishedAt ?? null, missedAt].filter((time) => time !== null)
  return times.length === 0 ? null : Math.min(...times)
}

/** The facts with one more applied. An end is final: nothing changes after it. */
export function apply(facts: SessionFacts, fact: Fact, rules: Rules): SessionFacts {
  return facts.end ? facts : forgetOld(endAtLimit(applyOne(facts, fact, rules), timeOf(fact), rules))
}

/** Drops old closed presences. The first to join and the last to leave stay: status and limits depend on them. */
function forgetOld(facts: SessionFacts): SessionFacts {
  if (facts.presences.length <= MAX_CLOSED) return forgetOldRooms(facts)
  const at = (presence: Presence) => closedAt(presence, facts) ?? Number.POSITIVE_INFINITY
  const closed = facts.presences.filter((presence) => closedAt(presence, facts) !== null).sort((a, b) => at(a) - at(b))
  if (closed.length <= MAX_CLOSED) return forgetOldRooms(facts)
  const joined = closed.filter(({ joinedAt }) => joinedAt !== null)
  const first = joined.toSorted((a, b) => (a.joinedAt ?? 0) - (b.joinedAt ?? 0))[0]
  const kept = new Set([first, joined.at(-1), ...closed.slice(-MAX_CLOSED)])
  const old = new Set(closed.filter((presence) => !kept.has(presence)))
  return forgetOldRooms({ ...facts, presences: facts.presences.filter((presence) => !old.has(presence)) })
}

/** Drops old finished rooms. Those of known presences stay, and the newest ones in case a late webhook names them. */
function forgetOldRooms(facts: SessionFacts): SessionFacts {
  if (facts.finishedRooms.size <= MAX_CLOSED) return facts
  const known = new Set(facts.presences.map(({ roomSid }) => roomSid))
  const newest = [...facts.finishedRooms].sort(([, a], [, b]) => b - a).slice(0, MAX_CLOSED)
  const kept = new Set(newest.map(([roomSid]) => roomSid))
  return {
    ...facts,
    finishedRooms: new Map([...facts.finishedRooms].filter(([sid]) => known.has(sid) || kept.has(sid))),
  }
}

/** When the service received the fact, or started the query for it. */
export const timeOf = (fact: Fact): number => (fact.kind === 'answer' ? fact.askedAt : fact.at)

function applyOne(facts: SessionFacts, fact: Fact, rules: Rules): SessionFacts {
  switch (fact.kind) {
    case 'joined':
      return update(facts, fact.sid, (presence) => ({
        ...presence,
        roomSid: fact.roomSid,
        joinedAt: earlier(presence.joinedAt, fact.at),
        seenAt: later(presence.seenAt, fact.at),
      }))
    case 'left':
      return update(facts, fact.sid, (presence) => ({
        ...presence,
        roomSid: fact.roomSid,
        // A `left` proves a join, even if the `joined` webhook is late or lost.
        joinedAt: fact.aborted ? presence.joinedAt : earlier(presence.joinedAt, fact.at),
        leftAt: earlier(presence.leftAt, fact.at),
        leftReason: presence.leftAt !== null && presence.leftAt <= fact.at ? presence.leftReason : fact.reason,
      }))
    case 'room_finished': {
      const at = earlier(facts.finishedRooms.get(fact.roomSid) ?? null, fact.at)
      return { ...facts, finishedRooms: new Map(facts.finishedRooms).set(fact.roomSid, at) }
    }
    case 'answer':
      return applyAnswer(facts, fact, rules)
    case 'clock':
      return facts
    case 'end':
      return { ...facts, end: fact.reason }
  }
}

function applyAnswer(facts: SessionFacts, fact: Answer, rules: Rules): SessionFacts {
  const { askedAt } = fact
  let next = facts
  for (const sid of fact.present) next = update(next, sid, (presence) => confirmed(presence, askedAt))
  const listed = new Set([...fact.present, ...fact.joining])
  next = {
    ...next,
    presences: next.presences.map((presence) =>
      listed.has(presence.sid) || closedAt(presence, next) !== null ? presence : missed(presence, askedAt),
    ),
  }
  return listed.size > 0 ? next : endIfDue(next, askedAt, rules)
}

function confirmed(presence: Presence, askedAt: number): Presence {
  const undone = presence.missedAt === null || askedAt > presence.missedAt
  return {
    ...presence,
    joinedAt: earlier(presence.joinedAt, askedAt),
    seenAt: later(presence.seenAt, askedAt),
    confirmedAt: later(presence.confirmedAt, askedAt),
    misses: undone ? 0 : presence.misses,
  }
}

/** Ignores an answer that is older than the newest evidence of presence or the last miss. */
function missed(presence: Presence, askedAt: number): Presence {
  if (presence.seenAt !== null && presence.seenAt >= askedAt) return presence
  if (presence.missedAt !== null && presence.missedAt >= askedAt) return presence
  return { ...presence, misses: presence.misses + 1, missedAt: askedAt }
}

/** Ends a session by absence only when LiveKit, queried after the deadline, lists no participant of it. */
function endIfDue(facts: SessionFacts, askedAt: number, { reconnectMs }: Rules): SessionFacts {
  const status = statusOf(facts)
  if (status === 'pending' && askedAt >= facts.tokenExpiresAt + JOIN_TOKEN_LEEWAY_MS) {
    return { ...facts, end: 'never_joined' }
  }
  if (status === 'disconnected') {
    const closed = facts.presences.map((presence) => closedAt(presence, facts) ?? 0)
    if (askedAt >= Math.max(...closed) + reconnectMs) return { ...facts, end: 'left' }
  }
  return facts
}

function endAtLimit(facts: SessionFacts, at: number, { maxSessionMs = Number.POSITIVE_INFINITY }: Rules): SessionFacts {
  const startedAt = Math.min(...facts.presences.map(({ joinedAt }) => joinedAt ?? Number.POSITIVE_INFINITY))
  return facts.end || at < startedAt + maxSessionMs ? facts : { ...facts, end: 'limit' }
}

/** Start of the newest query in which LiveKit listed an open presence, with no miss after it; null if there is none. */
export function confirmedAt(facts: SessionFacts): number | null {
  const times = openPresences(facts).flatMap(({ misses, confirmedAt }) => (misses === 0 ? (confirmedAt ?? []) : []))
  return times.length > 0 ? Math.max(...times) : null
}

/** Whether such a query started between these times. One in the future was dated by a clock that is not comparable. */
export function isConfirmed(facts: SessionFacts, { since, until }: Fresh): boolean {
  const at = confirmedAt(facts)
  return at !== null && at >= since && at <= until
}

/** When the user left of their own accord; null if present, never joined, or the session ended for another reason. */
export function leftSince(facts: SessionFacts): number | null {
  if (facts.end && facts.end !== 'left') return null
  const joined = facts.presences.filter(({ joinedAt }) => joinedAt !== null)
  // No webhook dates an inferred absence: it counts from the last evidence, so that the wrap-up is never too long.
  const since = joined.map((presence) => (presence.misses > 0 ? presence.seenAt : closedAt(presence, facts)))
  return since.length === 0 || since.includes(null) ? null : Math.max(...since.map((at) => at ?? 0))
}

function update(facts: SessionFacts, sid: string, change: (presence: Presence) => Presence): SessionFacts {
  const known = facts.presences.find((presence) => presence.sid === sid)
  if (!known) return { ...facts, presences: [...facts.presences, change(unknownPresence(sid))] }
  return {
    ...facts,
    presences: facts.presences.map((presence) => (presence === known ? change(presence) : presence)),
  }
}

const unknownPresence = (sid: string): Presence => ({
  sid,
  roomSid: null,
  joinedAt: null,
  seenAt: null,
  confirmedAt: null,
  leftAt: null,
  leftReason: null,
  misses: 0,
  missedAt: null,
})

const earlier = (a: number | null, b: number): number => (a === null ? b : Math.min(a, b))
const later = (a: number | null, b: number): number => (a === null ? b : Math.max(a, b))

/** The session with one more fact, and an event if its status changed. `now` is the time shown to people. */
export function observe(known: Known, fact: Fact, rules: Rules, now: number, note: EndNote = {}): Changed {
  const { session } = known
  const applied = apply(known.facts, fact, rules)
  const facts = areSame(applied, known.facts) ? known.facts : applied
  const status = statusOf(facts)
  const isEnding = facts.end !== null && known.facts.end === null
  // Both follow from LiveKit listing no participant: there is none to remove.
  const isOut = facts.end === 'left' || facts.end === 'never_joined'
  const ended = isEnding ? { endedAt: now, endReason: facts.end, removedAt: isOut ? now : null } : {}
  const reason = facts.end ? { reason: facts.end } : {}
  const events =
    status === session.status ? [] : [statusEvent(session, { status, ...reason, ...note } satisfies StatusData, now)]
  return change(known, { ...ended, status }, { facts, events })
}

/** Whether there is anything to save. */
export const differs = ({ before, facts, events }: Changed): boolean => facts !== before.facts || events.length > 0

const areSame = (a: SessionFacts, b: SessionFacts): boolean =>
  a.end === b.end &&
  a.presences.length === b.presences.length &&
  a.presences.every((presence, i) => presence === b.presences[i]) &&
  a.finishedRooms.size === b.finishedRooms.size &&
  [...a.finishedRooms].every(([roomSid, at]) => b.finishedRooms.get(roomSid) === at)

/** What the event of an end says besides its reason. */
export interface EndNote {
  agentId?: string
  detail?: string
  result?: Record<string, unknown>
}

interface StatusData extends EndNote {
  status: Status
  reason?: EndReason
}

const statusEvent = ({ lastSeq }: Session, data: StatusData, now: number): SessionEvent => ({
  seq: lastSeq + 1,
  type: 'session.status',
  data,
  agentId: null,
  createdAt: now,
})

/** The session with new values, and whatever else a decision changes. */
export function change(
  before: Known,
  values: Partial<Session>,
  { facts = before.facts, events = [], key = null }: Partial<Pick<Changed, 'facts' | 'events' | 'key'>> = {},
): Changed {
  const { session } = before
  const lastSeq = events.at(-1)?.seq ?? session.lastSeq
  const added = events.map(({ data }) => Buffer.byteLength(JSON.stringify(data)))
  const eventBytes = added.reduce((sum, bytes) => sum + bytes, session.eventBytes)
  return {
    ...before,
    before,
    facts,
    events,
    key,
    session: { ...session, ...values, lastSeq, eventBytes, version: session.version + 1 },
  }
}

/** How many sessions one user may have, and how much is stored of each. */
export interface SessionLimits {
  /** Live sessions; with this many, no further one is opened. Disconnected ones beyond it give way. */
  maxSessions: number
  /** Pending sessions; beyond this, the oldest is ended as `superseded`. */
  maxPending: number
  /** Events of one session; agents store no further ones, the service still does. */
  maxEvents: number
  /** The same for the bytes of their data. */
  maxEventBytes: number
}

/** Which of a user's unfinished sessions, given oldest first, make way for a new one; null when there are too many. */
export function makingWay(unfinished: readonly Known[], { maxSessions, maxPending }: SessionLimits): Known[] | null {
  const having = (status: Status) => unfinished.filter(({ session }) => session.status === status)
  const [pending, disconnected, live] = [having('pending'), having('disconnected'), having('live')]
  if (live.length >= maxSessions) return null
  return [
    ...pending.slice(0, Math.max(0, pending.length - maxPending + 1)),
    ...disconnected.slice(0, Math.max(0, live.length + disconnected.length - maxSessions + 1)),
  ]
}

/** Which of a user's unfinished sessions, given oldest first, are over the limit. The one that was joined last stays. */
export function beyondLimit(unfinished: readonly Known[], { maxSessions }: SessionLimits): Known[] {
  const live = unfinished.filter(({ session }) => session.status === 'live')
  if (live.length <= maxSessions) return []
  const liveSince = ({ facts }: Known) => Math.min(...openPresences(facts).map(({ joinedAt }) => joinedAt ?? 0))
  const newest = live.toSorted((a, b) => liveSince(a) - liveSince(b)).at(-1)
  return live.filter((known) => known !== newest).slice(0, live.length - maxSessions)
}

/** A new sign-in that takes over the sessions of an ended one. */
export interface Succession {
  from: string
  to: string
}

/** A user's unfinished sessions, each ended unless its sign-in is `kept`, or passed on to the successor of its sign-in. */
export function signedOut(
  unfinished: readonly Known[],
  kept: readonly string[],
  { at, now }: { at: number; now: number },
  next?: Succession,
): Changed[] {
  return unfinished.flatMap((known) => {
    const { signInId } = known.session
    if (next && signInId === next.from) return change(known, { signInId: next.to })
    if (signInId !== null && kept.includes(signInId)) return []
    return observe(known, { kind: 'end', reason: 'signed_out', at }, { reconnectMs: 0 }, now)
  })
}

/** A new join token, with the session's agent if that changes. `tokenExpiresAt` is `steady`. */
export type Renewal = Pick<Session, 'tokenExpiresAt'> & Partial<SessionAgent>

/** The session with a new join token; the latest expiry decides how long it may be joined. */
export function renewed(known: Known, { tokenExpiresAt, ...agent }: Renewal): Changed {
  const latest = Math.max(known.session.tokenExpiresAt, tokenExpiresAt)
  return change(known, { tokenExpiresAt: latest, ...agent }, { facts: { ...known.facts, tokenExpiresAt: latest } })
}

/** The calling agent: its account's id, and the scopes that its token and its account both have. */
export type Caller = Pick<Agent, 'id' | 'scopes'>

/** Whether the agent was dispatched to the session, or may act in all of them. */
export const isAgentOf = ({ agentName }: Session, { id, scopes }: Caller): boolean =>
  agentName === id || scopes.includes('sessions:any')

/** Whether the agent may call back for the session; one that names no agent admits any. */
export const mayAct = (session: Session, caller: Caller): boolean =>
  session.agentName === null || isAgentOf(session, caller)

/** What admits a callback: a `fresh` confirmation or, unless `wrapUpMs` is 0, a leave no longer ago than that. */
export interface Admissible {
  caller: Caller
  livenessMs: number
  wrapUpMs: number
  fresh: Fresh
  /** A leave counts if it is later. */
  leftAfter: number
}

/** `stale`: the confirmation has grown too old since the guard checked it. */
export type Refusal = 'stale' | 'not_live' | 'ended' | 'not_sessions_agent' | 'session_full'

/** Until when a callback may write, or why it may not. */
export function admittedUntil({ session, facts }: Known, admissible: Admissible): number | Refusal {
  const { caller, livenessMs, wrapUpMs, fresh, leftAfter } = admissible
  if (!mayAct(session, caller)) return 'not_sessions_agent'
  const confirmed = confirmedAt(facts)
  if (!facts.end && confirmed !== null && isConfirmed(facts, fresh)) return confirmed + livenessMs
  const left = leftSince(facts)
  if (wrapUpMs > 0 && left !== null && left > leftAfter) return left + wrapUpMs
  if (facts.end) return 'ended'
  return openPresences(facts).length > 0 ? 'stale' : 'not_live'
}

export interface Report {
  agentId: string
  type: string
  data: Record<string, unknown>
  key: IdempotencyKey | null
}

/** The session with an agent's event added. */
export function reported(known: Known, { agentId, type, data, key }: Report, now: number): Changed {
  const event = { seq: known.session.lastSeq + 1, type, data, agentId, createdAt: now }
  return change(known, {}, { events: [event], key })
}

/** Whether an agent's new event is more than the session may hold. */
export const isOverQuota = ({ session }: Changed, { maxEvents, maxEventBytes }: SessionLimits): boolean =>
  session.lastSeq > maxEvents || session.eventBytes > maxEventBytes

/** The event that this key stored before, or `key_reused` if it came with another request. */
export function replayOf({ answered }: { answered: Answered | null }, key: IdempotencyKey | null) {
  if (!answered || !key) return null
  return answered.payloadHash === key.payloadHash ? answered.event : 'key_reused'
}
