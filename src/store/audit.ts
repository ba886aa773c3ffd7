/** What an agent did or tried; equal decisions within a minute share an entry with a count. */
export interface AuditEntry {
  /** Null for a refusal that is about no session the agent may know of, such as a wrong pair. */
  sessionId: string | null
  userId: string | null
  agentId: string
  /** Such as `POST /agent/progress`, or of a job `job AJ_…`. */
  route: string
  /** `allowed` by the guard, `replayed` from an Idempotency-Key, or the code of the refusal; of a job, `assigned` or how it ended. */
  outcome: string
  count: number
  /** Milliseconds. */
  firstAt: number
  lastAt: number
}

type AuditDecision = Pick<AuditEntry, 'sessionId' | 'agentId' | 'route' | 'outcome'> & { at: number }

const MINUTE_MS = 60_000

/** The row of a decision that is the first of its kind in its minute. */
export function toAuditRow({ sessionId, agentId, route, outcome, at }: AuditDecision) {
  const minute = Math.floor(at / MINUTE_MS)
  return { sessionId, agentId, route, outcome, minute, count: 1, firstAt: at, lastAt: at }
}

/** An agent's entries together with its refusals that are about no session, newest first. */
export function merged(
  entries: readonly AuditEntry[],
  refusals: ReadonlyArray<Omit<AuditEntry, 'sessionId' | 'userId'>>,
  limit: number,
): AuditEntry[] {
  const all = [...entries, ...refusals.map((row) => ({ ...row, sessionId: null, userId: null }))]
  return all.sort((a, b) => b.lastAt - a.lastAt).slice(0, limit)
}

/** The audit trail. Entries are kept as long as their session, or as sessions are. */
export interface AuditStore {
  /** Records nothing about a session that was deleted. */
  record(decision: AuditDecision): Promise<void>
  /** Newest first. */
  ofSession(sessionId: string, limit: number): Promise<AuditEntry[]>
  /** Newest first. */
  ofAgent(agentId: string, limit: number): Promise<AuditEntry[]>
}
