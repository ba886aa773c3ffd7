export const STATUSES = ['pending', 'live', 'disconnected', 'ended'] as const
export type Status = (typeof STATUSES)[number]

/** Who or what wrote the end mark. */
export const END_REASONS = ['user', 'agent', 'limit', 'superseded', 'never_joined', 'left'] as const
export type EndReason = (typeof END_REASONS)[number]

/**
 * One user in one room, from minting its join token to its end. Times are milliseconds since the epoch, or `steady` ones of
 * the store's clock where it says so.
 */
export interface Session {
  id: string
  userId: string
  room: string
  /** As last observed. */
  status: Status
  createdAt: number
  /** When its newest join token expires; `steady`. */
  tokenExpiresAt: number
  endedAt: number | null
  endReason: EndReason | null
  /** The agent that LiveKit dispatches for it. */
  agentName: string | null
  /** The client's own words for that agent, verbatim. */
  agentData: string | null
  /** The presence for which the dispatch is known to exist. */
  dispatchedSid: string | null
  /** When the dispatch was found or made; `steady`. */
  dispatchedAt: number | null
  /** When LiveKit confirmed that no participant of this ended session is in the room. */
  removedAt: number | null
  /** `seq` of its newest event. */
  lastSeq: number
  /** Rises with every change that is saved. */
  version: number
}

/** What is known of one LiveKit participant sid. LiveKit never reuses a sid. Times are `steady`. */
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

/** What the rules of a session's life go by. */
export interface SessionFacts {
  /** When the newest join token expires; `steady`. */
  tokenExpiresAt: number
  end: EndReason | null
  presences: readonly Presence[]
  /** Finished room sids, with the `steady` time. */
  finishedRooms: ReadonlyMap<string, number>
}

/** A session with all that is known of it. */
export interface Known {
  session: Session
  facts: SessionFacts
  /** What the asked-for Idempotency-Key got before; null for nothing. */
  answered: Answered | null
}

/** Something that happened in a session. `seq` rises strictly within it. */
export interface SessionEvent {
  seq: number
  type: string
  data: unknown
  /** The agent that posted it; null for the service's own. */
  agentId: string | null
  createdAt: number
}

export interface IdempotencyKey {
  agentId: string
  key: string
  /** SHA-256 of the request, hex. */
  payloadHash: string
}

/** The event that an Idempotency-Key stored, and the request that it stood for. */
export interface Answered {
  payloadHash: string
  event: SessionEvent
}

/** A session as a decision leaves it. */
export interface Changed extends Known {
  before: Known
  /** Its new events. */
  events: readonly SessionEvent[]
  /** Stored with the last of these events. */
  key?: IdempotencyKey | null
}

export interface Decision<T> {
  /** What is to be saved. */
  changed?: readonly Changed[]
  /** A new session to be inserted; its room stays claimed. */
  opened?: Session
  result: T
}

/** Which sessions a decision is about: one, or all unfinished ones of a user or in a room, oldest first. */
export type Which =
  | { session: string; key?: IdempotencyKey | null }
  /** As loaded before; loaded again only if it has changed since. */
  | { known: Known }
  | { unfinishedOf: string }
  | { unfinishedIn: string }

/** What is old enough to be deleted. */
interface Old {
  /** Sessions that ended before then and that LiveKit confirmed to be out of their room, with all that is known of them. */
  ended: number
  /** The same for those that nobody joined. */
  unused: number
  /** Webhook ids received before then. */
  webhooks: number
  /** Idempotency keys stored before then; `steady`. */
  keys: number
}

/** Sessions and what is known of them. It loads and saves; what changes is decided by the rules (`lifecycle.ts`). */
export interface SessionStore {
  /**
   * Loads the sessions, lets `decide` say what changes, and saves that, all in one transaction. `decide` is synchronous, has no
   * effects, and may be called again with newer facts.
   */
  change<T>(which: Which, decide: (known: Known[]) => Decision<T>): Promise<T>
  /** The same once for each webhook id; null for one that was received before. */
  changeOnce<T>(
    webhook: { id: string; receivedAt: number },
    which: Which | null,
    decide: (known: Known[]) => Decision<T>,
  ): Promise<T | null>
  find(id: string): Promise<Session | null>
  load(id: string, key?: IdempotencyKey | null): Promise<Known | null>
  /** The user's sessions, newest first, those before the given id. */
  listByUser(userId: string, limit: number, before?: string): Promise<Session[]>
  /** Every session that has not ended, in that room if one is named, oldest first. */
  listUnfinished(room?: string): Promise<Session[]>
  /** Ended sessions whose participant LiveKit has not yet confirmed to be gone, oldest end first. */
  listToRemove(): Promise<Session[]>
  lastWebhookAt(): Promise<number | null>
  /** Deletes at most `limit` rows of each kind; returns the most that it deleted of one. */
  prune(old: Old, limit: number): Promise<number>
}

/** What happened in each session; written by `SessionStore.change`. */
export interface EventStore {
  /** Events after `after`, oldest first: at most `limit`, fewer where they are large, none only at the end. */
  page(sessionId: string, after: number, limit: number): Promise<SessionEvent[]>
  /** Whether there are events after `after`. */
  hasMore(sessionId: string, after: number): Promise<boolean>
  /** The last `limit` events, oldest first; fewer where they are large. */
  last(sessionId: string, limit: number): Promise<SessionEvent[]>
  /**
   * Calls back after an event of that session was stored, perhaps late, more often than needed or not at all: only a
   * hint to read again by cursor. Returns how to stop it.
   */
  subscribe(sessionId: string, onAppended: () => void): () => void
}
