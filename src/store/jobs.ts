/** How a job ended: its worker said so, LiveKit did since the agent left or was called off, or another job took its place. */
export const JOB_ENDS = ['finished', 'failed', 'left', 'replaced'] as const
export type JobEnd = (typeof JOB_ENDS)[number]

/** A job that LiveKit gave to a worker through the gateway. */
export interface Job {
  /** LiveKit's, `AJ_…`. */
  id: string
  sessionId: string
  /** The account that the worker authenticated as. */
  agentId: string
  /** LiveKit's, `AW_…`. */
  workerId: string
  assignedAt: number
  endedAt: number | null
  /** When it ended; `steady`. */
  endedSteady: number | null
  end: JobEnd | null
}

interface Ended {
  end: JobEnd
  /** For people. */
  now: number
  steady: number
}

/** Who was given which job; kept as long as its session. */
export interface JobStore {
  /** Inserts the job, and ends the session's others as `replaced`; returns those, or null if the job is known or the session deleted. */
  assign(job: Pick<Job, 'id' | 'sessionId' | 'agentId' | 'workerId'>, at: Omit<Ended, 'end'>): Promise<Job[] | null>
  /** Null unless that account's job was running. */
  end(id: string, agentId: string, ended: Ended): Promise<Job | null>
  /** The newest job of that account in the session. */
  newest(sessionId: string, agentId: string): Promise<Job | null>
}
