/** What an agent did or tried; equal decisions within a minute share an entry with a count. */
export interface AuditEntry {
  /** Null for a refusal that is about no session the agent may know of, such as a wrong pair. */
  sessionId: string | null
  userId: string | null
  agentId: string
  /** Such as `POST /agent/progress`. */
  route: string
  /** `allowed` by the guard, `replayed` from an Idempotency-Key, or the code of the refusal. */
  outcome: string
  count: number
  /** Milliseconds. */
  firstAt: number
  lastAt: number
}

type AuditDecision = Pick<AuditEntry, 'sessionId' | 'agentId' | 'route' | 'outcome'> & { at: number }

/** The audit trail. Entries are kept as long as their session, or as sessions are. */
export interface AuditStore {
  record(decision: AuditDecision): Promise<void>
  /** Newest first. */
  ofSession(sessionId: string, limit: number): Promise<AuditEntry[]>
  /** Newest first. */
  ofAgent(agentId: string, limit: number): Promise<AuditEntry[]>
}
