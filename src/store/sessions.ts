export const STATUSES = ['pending', 'live', 'disconnected', 'ended'] as const
export type Status = (typeof STATUSES)[number]

/** Who or what ended the session. */
export const END_REASONS = ['user', 'agent', 'limit', 'superseded', 'never_joined', 'left', 'signed_out'] as const
export type EndReason = (typeof END_REASONS)[number]

/**
 * One user in one room, from the minting of the first join token to the end. Times are milliseconds since the epoch, or
 * the store clock's `steady` where noted.
 */
export interface Session {
  id: string
  userId: string
  /** The sign-in that opened it; null if an earlier version did. */
  signInId: string | null
  room: string
  /** As last observed. */
  status: Status
  createdAt: number
  /** When the last of its join tokens expires; `steady`. */
  tokenExpiresAt: number
  endedAt: number | null
  endReason: EndReason | null
  /** The agent that LiveKit dispatches for it. */
  agentName: string | null
  /** The client's data for that agent, verbatim. */
  agentData: string | null
  /** The deployment of that agent's workers which the client chose, such as `staging`. */
  agentDeployment: string | null
  /** The presence for which the dispatch is known to exist. */
  dispatchedSid: string | null
  /** When the dispatch was found or created; without a `dispatchedSid`, when an instance claimed it; `steady`. */
  dispatchedAt: number | null
  /** The sid of the user's phone: of the SIP participant that the service created last. Null if it created none. */
  phoneSid: string | null
  /** When LiveKit was asked to call the phone; `steady`. Set only as long as the sid of that call is unknown. */
  callingSince: number | null
  /** When LiveKit confirmed that no participant of this ended session is in the room. */
  removedAt: number | null
  /** `seq` of its newest event. */
  lastSeq: number
  /** Bytes of its events' data, as JSON. */
  eventBytes: number
  /** Incremented by every saved change. */
  version: number
}

/** The agent of a session, as the session stores it. */
export type SessionAgent = Pick<Session, 'agentName' | 'agentData' | 'agentDeployment'>

/** What is known of one LiveKit participant sid. LiveKit never reuses a sid. Times are `steady`. */
export interface Presence {
  sid: string
  /** Null while known only from `listParticipants` or `getParticipant`, which do not return it. */
  roomSid: string | null
  /** Earliest evidence of a join; null if there is none. */
  joinedAt: number | null
  /** Newest evidence of presence in the room. */
  seenAt: number | null
  /** Start of the newest query that LiveKit answered with "there"; a webhook does not count as confirmation. */
  confirmedAt: number | null
  leftAt: number | null
  leftReason: string | null
  /** Successful answers in a row that did not list it, and the start of the last such query. */
  misses: number
  missedAt: number | null
}

/** What the rules of a session's life decide by. */
export interface SessionFacts {
  /** When the newest join token expires; `steady`. */
  tokenExpiresAt: number
  end: EndReason | null
  presences: readonly Presence[]
  /** Sids of finished rooms, each with its `steady` time. */
  finishedRooms: ReadonlyMap<string, number>
}

/** A session with everything known about it. */
export interface Known {
  session: Session
  facts: SessionFacts
  /** What the Idempotency-Key it was loaded with stored before; null when it stored nothing. */
  answered: Answered | null
}

/** Something that happened in a session. `seq` rises strictly within it. */
export interface SessionEvent {
  seq: number
  type: string
  data: unknown
  /** The agent that posted it; null for the service's own events. */
  agentId: string | null
  createdAt: number
}

/** An event as it is stored. */
export interface EventRow extends Omit<SessionEvent, 'data'> {
  /** JSON. */
  data: string
}

export const toEvent = (row: EventRow): SessionEvent => ({ ...row, data: JSON.parse(row.data) })

/** An event may be 64 KiB, so the number of events alone does not bound a page. */
export const MAX_PAGE_BYTES = 256 * 1024

export interface IdempotencyKey {
  agentId: string
  key: string
  /** SHA-256 of the request, hex. */
  payloadHash: string
}

/** The event that an Idempotency-Key stored, and the hash of the request it came with. */
export interface Answered {
  payloadHash: string
  event: SessionEvent
}

/** A session after a decision. */
export interface Changed extends Known {
  before: Known
  /** Its new events. */
  events: readonly SessionEvent[]
  /** Stored together with the last of these events. */
  key?: IdempotencyKey | null
}

export interface Decision<T> {
  /** The sessions to save. */
  changed?: readonly Changed[]
  /** A new session to insert, which keeps its room claimed. Refused as `invalid_token` when its user was deleted. */
  opened?: Session
  /** Until when it may be saved, `steady`; after that it is decided again. SQLite saves at once, and ignores it. */
  validUntil?: number
  result: T
}

/** Which sessions a decision is about: one, or all unfinished ones of a user or in a room, oldest first. */
export type Which =
  | { session: string; key?: IdempotencyKey | null }
  /** As loaded before; reloaded if it has changed since, or if the decision changes nothing. */
  | { known: Known }
  | { unfinishedOf: string }
  | { unfinishedIn: string }

/** Retention cutoffs: rows older than these are deleted. */
interface Old {
  /**
   * Sessions that ended before this and that LiveKit confirmed to be out of their room, with all their rows; also
   * refusals that are about no session.
   */
  ended: number
  /** The same for sessions that no user joined. */
  unused: number
  /** Webhook ids received before this. */
  webhooks: number
  /** Idempotency keys stored before this; `steady`. */
  keys: number
}

export type ReceivedWebhook = { id: string; receivedAt: number }

/** Loads and saves sessions and what is known of them; the rules (`lifecycle.ts`) decide what changes. */
export interface SessionStore {
  /**
   * Loads the sessions, lets `decide` say what changes, and saves it, all in one transaction. `decide` is synchronous,
   * has no side effects, and may be called again with newer facts.
   */
  change<T>(which: Which, decide: (known: Known[]) => Decision<T>): Promise<T>
  /** The same, once per webhook id; null if the id was received before. */
  changeOnce<T>(
    webhook: ReceivedWebhook,
    which: Which | null,
    decide: (known: Known[]) => Decision<T>,
  ): Promise<T | null>
  find(id: string): Promise<Session | null>
  load(id: string, key?: IdempotencyKey | null): Promise<Known | null>
  /** The user's sessions, newest first; with `before`, only those older than that id. */
  listByUser(userId: string, limit: number, before?: string): Promise<Session[]>
  /** Every session that has not ended, oldest first; with `room`, only those in that room. */
  listUnfinished(room?: string): Promise<Session[]>
  /** Ended sessions that LiveKit has not yet confirmed to be out of their room, earliest end first; they may be many. */
  listToRemove(): Promise<Array<Pick<Session, 'id' | 'room'>>>
  lastWebhookAt(): Promise<number | null>
  /** Deletes at most `limit` rows of each kind; returns the largest number deleted of one kind. */
  prune(old: Old, limit: number): Promise<number>
}

/** What happened in each session; written by `SessionStore.change`. */
export interface EventStore {
  /** Events after `after`, oldest first: at most `limit`, fewer when they are large, none only at the end. */
  page(sessionId: string, after: number, limit: number): Promise<SessionEvent[]>
  /** Whether there are events after `after`. */
  hasMore(sessionId: string, after: number): Promise<boolean>
  /** The last `limit` events, oldest first; fewer when they are large. */
  last(sessionId: string, limit: number): Promise<SessionEvent[]>
  /**
   * Calls back after an event of that session was stored, possibly late, repeatedly or not at all: it is only a hint to
   * read again from the cursor. Returns a function that unsubscribes.
   */
  subscribe(sessionId: string, onAppended: () => void): () => void
}
