import { sql } from 'drizzle-orm'
import type { Job, JobStore } from '../jobs.ts'
import type { Postgres } from './postgres.ts'
import { jobs } from './schema.ts'
import { lockSession } from './sessions.ts'
import { insertInto, param, selected, statement } from './statements.ts'

/** Jobs in PostgreSQL. */
export function postgresJobs(db: Postgres): JobStore {
  return {
    assign: (job, { now, steady }) =>
      db.transaction(async (on) => {
        // So that of two jobs assigned to a session at once, the later one ends the other.
        if ((await lockSession.run(on, { id: job.sessionId })) === 0) return null
        const row = { ...job, assignedAt: now, endedAt: null, endedSteady: null, end: null }
        if ((await insert.run(on, row)) === 0) return null
        return endOthers.all(on, { id: job.id, sessionId: job.sessionId, end: 'replaced', now, steady })
      }),
    end: async (id, agentId, { end, now, steady }) => (await endOne.get(db, { id, agentId, end, now, steady })) ?? null,
    newest: async (sessionId, agentId) => (await newest.get(db, { sessionId, agentId })) ?? null,
  }
}

const insert = statement('job_insert', sql`${insertInto(jobs)} on conflict do nothing`)
const ending = sql`update ${jobs} set "end" = ${param('end')}, ended_at = ${param('now')}, ended_steady = ${param('steady')}
  where "end" is null`
const endOne = statement<Job>(
  'job_end',
  sql`${ending} and id = ${param('id')} and agent_id = ${param('agentId')} returning ${selected(jobs)}`,
)
const endOthers = statement<Job>(
  'jobs_end_others',
  sql`${ending} and session_id = ${param('sessionId')} and id <> ${param('id')} returning ${selected(jobs)}`,
)
const newest = statement<Job>(
  'job_newest',
  sql`select ${selected(jobs)} from ${jobs} where session_id = ${param('sessionId')} and agent_id = ${param('agentId')}
    order by assigned_at desc, ordinal desc limit 1`,
)
