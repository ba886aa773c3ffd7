/** Something that happened in a session. `seq` rises strictly within it. */
export interface SessionEvent {
  seq: number
  type: string
  data: unknown
  /** The agent that posted it; null for the service's own. */
  agentId: string | null
  createdAt: number
}

export interface NewEvent {
  sessionId: string
  agentId: string
  type: string
  data: Record<string, unknown>
  createdAt: number
  idempotency: IdempotencyKey | null
  /** Also take it from a session that the user has left, though not from one that was ended otherwise. */
  afterLeft?: boolean
}

export interface IdempotencyKey {
  key: string
  /** SHA-256 of the request, hex. */
  payloadHash: string
}

export type Appended =
  | { outcome: 'stored' | 'replayed'; event: SessionEvent }
  | { outcome: 'key_reused' | 'not_live' | 'ended' }

/** What happened in each session. */
export interface EventStore {
  /** Stores the event, and its idempotency key in the same write, only while the session is live. */
  append(event: NewEvent): Promise<Appended>
  /** The answer that this agent's key already got in this session. */
  findReplay(
    agentId: string,
    sessionId: string,
    idempotency: IdempotencyKey,
  ): Promise<{ outcome: 'replayed'; event: SessionEvent } | { outcome: 'key_reused' } | null>
  /** Events after `after`, oldest first: at most `limit`, fewer where they are large, none only at the end. */
  page(sessionId: string, after: number, limit: number): Promise<SessionEvent[]>
  /** Whether there are events after `after`. */
  hasMore(sessionId: string, after: number): Promise<boolean>
  /** The last `limit` events, oldest first; fewer where they are large. */
  last(sessionId: string, limit: number): Promise<SessionEvent[]>
  /**
   * Calls back after an event of that session was stored, perhaps late, more often than needed or not at all: only a
   * hint to read again by cursor (with PostgreSQL it will be LISTEN/NOTIFY). Returns how to stop it.
   */
  subscribe(sessionId: string, onAppended: () => void): () => void
  /** Forgets at most `limit` idempotency keys that are older; returns how many. */
  pruneKeys(before: number, limit: number): Promise<number>
}
