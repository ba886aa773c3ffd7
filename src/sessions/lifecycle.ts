// The rules of a session's life: pure, and independent of the order in which facts arrive. Times are `steady` ones of the
// store's clock, milliseconds that never go back; nothing here reads a clock.

export const STATUSES = ['pending', 'live', 'disconnected', 'ended'] as const
export type Status = (typeof STATUSES)[number]

/** Who or what wrote the end mark. */
export const END_REASONS = ['user', 'agent', 'limit', 'superseded', 'never_joined', 'left'] as const
export type EndReason = (typeof END_REASONS)[number]

/** What is known of one LiveKit participant sid. LiveKit never reuses a sid. */
export interface Presence {
  sid: string
  /** Null while only `listParticipants` or `getParticipant` told of it: those do not say. */
  roomSid: string | null
  /** Earliest evidence of having joined; null for one that never did. */
  joinedAt: number | null
  /** Newest evidence of being there. */
  seenAt: number | null
  /** Start of the newest question that LiveKit answered with "there"; a webhook is no confirmation. */
  confirmedAt: number | null
  leftAt: number | null
  leftReason: string | null
  /** Clean answers in a row without it, and the start of the last such question. */
  misses: number
  missedAt: number | null
}

export interface SessionFacts {
  /** When the newest join token expires. */
  tokenExpiresAt: number
  end: EndReason | null
  presences: readonly Presence[]
  /** Finished room sids, with the time. */
  finishedRooms: ReadonlyMap<string, number>
}

export type Fact =
  /** Webhook participant_joined: media is up. */
  | { kind: 'joined'; sid: string; roomSid: string; at: number }
  /** Webhook participant_left, or participant_connection_aborted (`aborted`: it never was there). */
  | { kind: 'left'; sid: string; roomSid: string; at: number; reason: string; aborted: boolean }
  /** Webhook room_finished: closes every presence of that room sid. */
  | { kind: 'room_finished'; roomSid: string; at: number }
  /** LiveKit's clean answer to our own question, stamped with the question's start. */
  | { kind: 'answer'; askedAt: number; present: readonly string[]; joining: readonly string[] }
  /** Nothing but the time: some ends come by it alone. */
  | { kind: 'clock'; at: number }
  | { kind: 'end'; reason: EndReason; at: number }

export type Answered = Extract<Fact, { kind: 'answer' }>

export interface Rules {
  /** How long everything must have been closed before an absence ends the session. */
  reconnectMs: number
  /** How long a session may last from its first join; no limit when absent. */
  maxSessionMs?: number
}

/** LiveKit accepts a join token up to a minute past its `exp`. */
export const JOIN_TOKEN_LEEWAY_MS = 60_000
/** Closed presences that are kept: with one join token a client can open and drop connections without end. */
const MAX_CLOSED = 50
/** An inferred absence closes a presence only when it is seen twice. */
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

/** The facts with one more. An end mark is terminal: nothing changes after it. */
export function apply(facts: SessionFacts, fact: Fact, rules: Rules): SessionFacts {
  return facts.end ? facts : forgetOld(endAtLimit(applyOne(facts, fact, rules), timeOf(fact), rules))
}

/** Without old closed presences. The first to join and the last to leave stay: status and limits follow from those. */
function forgetOld(facts: SessionFacts): SessionFacts {
  const closed = facts.presences
    .map((presence) => ({ presence, at: closedAt(presence, facts) }))
    .filter((known): known is { presence: Presence; at: number } => known.at !== null)
    .sort((a, b) => a.at - b.at)
    .map(({ presence }) => presence)
  if (closed.length <= MAX_CLOSED) return facts
  const joined = closed.filter(({ joinedAt }) => joinedAt !== null)
  const first = joined.toSorted((a, b) => (a.joinedAt ?? 0) - (b.joinedAt ?? 0))[0]
  const kept = new Set([first, joined.at(-1), ...closed.slice(-MAX_CLOSED)])
  const old = new Set(closed.filter((presence) => !kept.has(presence)))
  return { ...facts, presences: facts.presences.filter((presence) => !old.has(presence)) }
}

/** When the fact was told to us, or asked for. */
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
        // A left proves a join, even when its webhook is still to come or lost.
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

function applyAnswer(facts: SessionFacts, fact: Answered, rules: Rules): SessionFacts {
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

/** An answer older than our newest evidence says nothing, nor does one older than the last miss. */
function missed(presence: Presence, askedAt: number): Presence {
  if (presence.seenAt !== null && presence.seenAt >= askedAt) return presence
  if (presence.missedAt !== null && presence.missedAt >= askedAt) return presence
  return { ...presence, misses: presence.misses + 1, missedAt: askedAt }
}

/** Only LiveKit's own "nobody", asked after the deadline, ends a session that nobody ended. */
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

/** An open presence that LiveKit listed when it was asked then or later, and has not missed after that. */
export const isConfirmed = (facts: SessionFacts, since: number): boolean =>
  openPresences(facts).some(({ misses, confirmedAt }) => misses === 0 && confirmedAt !== null && confirmedAt >= since)

/** Since when a callback's user must have been confirmed, or else have left; null where it must not come after the leaving. */
export interface Admissible {
  confirmedSince: number
  leftSince: number | null
}

/** Whether a callback may be written. `stale`: the confirmation has grown too old since the guard looked at it. */
export type Admission = 'admitted' | 'stale' | 'not_live' | 'ended'

export function admit(facts: SessionFacts, admissible: Admissible): Admission {
  if (!facts.end && isConfirmed(facts, admissible.confirmedSince)) return 'admitted'
  const left = leftSince(facts)
  if (admissible.leftSince !== null && left !== null && left > admissible.leftSince) return 'admitted'
  if (facts.end) return 'ended'
  return openPresences(facts).length > 0 ? 'stale' : 'not_live'
}

/** When the user left by themselves; null if they are there, never joined, or the session ended for another reason. */
export function leftSince(facts: SessionFacts): number | null {
  if (facts.end && facts.end !== 'left') return null
  const joined = facts.presences.filter(({ joinedAt }) => joinedAt !== null)
  // An absence that nobody told of began somewhere after the last evidence: counted from there it is never too long.
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
