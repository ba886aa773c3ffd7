import type { Admission, EndReason, Fact, Rules, SessionFacts, Status } from './lifecycle.ts'

/** One user in one room, from minting its join token to its end. Times are milliseconds since the epoch, unless they say `steady`. */
export interface Session {
  id: string
  userId: string
  room: string
  /** As last observed. */
  status: Status
  createdAt: number
  /** `steady`. */
  tokenExpiresAt: number
  endedAt: number | null
  endReason: EndReason | null
  /** The agent that LiveKit dispatches for it. */
  agentName: string | null
  /** The client's own words for that agent, verbatim. */
  agentData: string | null
  /** The presence for which the dispatch is known to exist. */
  dispatchedSid: string | null
  /** When it was found or made; `steady`. */
  dispatchedAt: number | null
}

export interface NewSession {
  id: string
  userId: string
  room: string
  createdAt: number
  /** `steady`. */
  tokenExpiresAt: number
  agentName: string | null
  agentData: string | null
}

export interface OpenLimits {
  /** Live and disconnected sessions of the user; at this many no further one is opened. */
  maxSessions: number
  /** Pending ones; beyond it the oldest is ended as `superseded`, and whoever joins it nevertheless is the reconciler's. */
  maxPending: number
}

export type Opened = 'opened' | 'too_many'

export interface Renewal {
  tokenExpiresAt: number
  /** Null keeps what the session has. */
  agent: { name: string; data: string | null } | null
}

/** A status as it was before and is after one fact. */
export interface Change {
  session: Session
  before: Status
  facts: SessionFacts
}

/** What a callback's write asks for, in milliseconds; it is checked in the write's own transaction. */
export interface AdmissionRules {
  /** How long a confirmation counts. */
  livenessMs: number
  /** How long after the user left the callback may still come; 0 for not at all. */
  wrapUpMs: number
}

/** What the status event of an end says beside the reason. */
export interface EndNote {
  agentId?: string
  detail?: string
  result?: Record<string, unknown>
}

export interface WebhookFact {
  eventId: string
  receivedAt: number
  /** Which sessions the fact is about; a finished room concerns all with a presence in it. */
  about: { sessionId: string } | { room: string } | null
  fact: Fact | null
}

/** Sessions and the facts about them. Every method is atomic; a changed status is stored as event `session.status`. */
export interface SessionStore {
  /** Inserts a pending session and keeps its room claimed, within the limits. */
  open(session: NewSession, limits: OpenLimits): Promise<Opened>
  /** A new join token for a session that has not ended; null when it has. */
  renew(id: string, renewal: Renewal): Promise<Session | null>
  find(id: string): Promise<Session | null>
  findWithFacts(id: string): Promise<{ session: Session; facts: SessionFacts } | null>
  /** The user's sessions, newest first, those before the given id. */
  listByUser(userId: string, limit: number, before?: string): Promise<Session[]>
  /** Every session that has not ended, in that room if one is named. */
  listUnfinished(room?: string): Promise<Session[]>
  /** Applies one fact; null for an unknown session. */
  record(id: string, fact: Fact, rules: Rules): Promise<Change | null>
  /** Ends it, once: null when unknown; `before` tells whether this call did it. */
  end(id: string, reason: EndReason): Promise<Change | null>
  /** Ends it as its agent asked, if the callback is admitted. */
  endAsAgent(id: string, note: EndNote, rules: AdmissionRules): Promise<Change | Exclude<Admission, 'admitted'>>
  /**
   * Ends the user's oldest live sessions as `limit`, as many as there are too many beside this one that has just been joined:
   * waiting ones may be joined although there are enough. Nothing when this one is not live any more.
   */
  endOverLimit(joined: Session, maxLive: number): Promise<Change[]>
  /** The webhook's id and its change in one write; empty for a repeated id. */
  recordWebhook(webhook: WebhookFact, rules: Rules): Promise<Change[]>
  lastWebhookAt(): Promise<number | null>

  /** Ended sessions whose participant LiveKit has not yet confirmed to be gone, oldest end first. */
  listToRemove(): Promise<Session[]>
  /** Whether LiveKit lists no participant of it any more. */
  markRemoved(id: string, isOut: boolean): Promise<void>
  markDispatched(id: string, sid: string): Promise<void>
  /**
   * Compare-and-swap: true for exactly one caller, which then recreates the dispatch of this unfinished session, when the
   * last one is older than that.
   */
  claimRedispatch(id: string, olderThanMs: number): Promise<boolean>
  /**
   * Deletes sessions that ended before and that LiveKit confirmed to be out of their room, with all that is known of them;
   * at most `limit` rows. Returns how many.
   */
  pruneEnded(endedBefore: number, limit: number): Promise<number>
  /** The same for those that nobody joined. */
  pruneUnused(endedBefore: number, limit: number): Promise<number>
  /** Forgets webhook ids that were received, and rooms that finished (`steady`), before then: at most `limit` of each. Returns how many. */
  prune(before: { webhooks: number; finishedRooms: number }, limit: number): Promise<number>
}
