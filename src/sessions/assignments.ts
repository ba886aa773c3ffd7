import type { AssignedJob } from '../livekit/worker-messages.ts'
import type { Job, JobEnd } from '../store/jobs.ts'
import type { Store } from '../store/store.ts'
import { change } from './lifecycle.ts'

/** Which account was given which session's job, from LiveKit's own messages to workers as they pass the gateway. */
export interface Assignments {
  assigned(worker: { agentId: string; workerId: string }, job: AssignedJob): Promise<void>
  ended(agentId: string, jobId: string, end: JobEnd): Promise<void>
  /** The agent's participant was removed from the room, because its account is disabled. */
  calledOff(sessionId: string, agentId: string): Promise<void>
  /** Whether that account has a job in the session, or had one until `wrapUpMs` ago. */
  hasJob(sessionId: string, agentId: string, wrapUpMs: number): Promise<boolean>
}

export function createAssignments({
  jobs,
  sessions,
  audit,
  clock,
}: Pick<Store, 'jobs' | 'sessions' | 'audit' | 'clock'>): Assignments {
  const times = () => ({ now: clock.now(), steady: clock.steady() })

  /** Adds it to the session's events, which its user sees, and to the audit trail. */
  async function publish({ id, sessionId, agentId }: Pick<Job, 'id' | 'sessionId' | 'agentId'>, end: JobEnd | null) {
    const data = { agentId, jobId: id, ...(end === null ? {} : { reason: end }) }
    const type = end === null ? 'agent.joined' : 'agent.lost'
    const at = clock.now()
    await Promise.all([
      audit.record({ sessionId, agentId, route: `job ${id}`, outcome: end ?? 'assigned', at }),
      sessions.change({ session: sessionId }, ([known]) => {
        if (!known || known.facts.end) return { result: undefined }
        const event = { seq: known.session.lastSeq + 1, type, data, agentId: null, createdAt: at }
        return { changed: [change(known, {}, { events: [event] })], result: undefined }
      }),
    ])
  }

  async function ended(agentId: string, jobId: string, end: JobEnd) {
    const job = await jobs.end(jobId, agentId, { end, ...times() })
    if (job) await publish(job, end)
  }

  return {
    ended,
    async assigned({ agentId, workerId }, { id, room, attributes: { sessionId } }) {
      const session = sessionId === undefined ? null : await sessions.find(sessionId)
      // Anyone with LiveKit's secret can dispatch an agent with any attributes: only a session that names it counts.
      if (!session || session.room !== room || session.agentName !== agentId) return
      const job = { id, sessionId: session.id, agentId, workerId }
      const replaced = await jobs.assign(job, times())
      if (!replaced) return
      for (const lost of replaced) await publish(lost, 'replaced')
      await publish(job, null)
    },
    async calledOff(sessionId, agentId) {
      const job = await jobs.newest(sessionId, agentId)
      if (job?.end === null) await ended(agentId, job.id, 'left')
    },
    async hasJob(sessionId, agentId, wrapUpMs) {
      const job = await jobs.newest(sessionId, agentId)
      return job !== null && (job.endedSteady === null || job.endedSteady > clock.since(wrapUpMs))
    },
  }
}
