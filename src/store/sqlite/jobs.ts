import { and, desc, eq, getTableColumns, isNull, sql } from 'drizzle-orm'
import type { JobStore } from '../jobs.ts'
import { runRead, type Write } from './group-commit.ts'
import { jobs } from './schema.ts'
import { type Db, param, unlessOrphan, values } from './sqlite.ts'

/** Jobs in SQLite. */
export function sqliteJobs(db: Db, write: Write): JobStore {
  const insert = db
    .insert(jobs)
    .values(values(getTableColumns(jobs)))
    .onConflictDoNothing()
    .returning({ id: jobs.id })
    .prepare()
  const ended = {
    end: sql`${param('end')}`,
    endedAt: sql`${param('now')}`,
    endedSteady: sql`${param('steady')}`,
  }
  const endOne = db
    .update(jobs)
    .set(ended)
    .where(and(eq(jobs.id, param('id')), eq(jobs.agentId, param('agentId')), isNull(jobs.end)))
    .returning()
    .prepare()
  const endOthers = db
    .update(jobs)
    .set(ended)
    .where(and(eq(jobs.sessionId, param('sessionId')), sql`${jobs.id} <> ${param('id')}`, isNull(jobs.end)))
    .returning()
    .prepare()
  const newest = db
    .select()
    .from(jobs)
    .where(and(eq(jobs.sessionId, param('sessionId')), eq(jobs.agentId, param('agentId'))))
    .orderBy(desc(jobs.assignedAt), desc(sql`rowid`))
    .limit(1)
    .prepare()
  return {
    assign: (job, { now, steady }) =>
      write(() => {
        const row = { ...job, assignedAt: now, endedAt: null, endedSteady: null, end: null }
        if (!unlessOrphan(() => insert.get(row))) return null
        return endOthers.all({ id: job.id, sessionId: job.sessionId, end: 'replaced', now, steady })
      }),
    end: (id, agentId, { end, now, steady }) => write(() => endOne.get({ id, agentId, end, now, steady }) ?? null),
    newest: (sessionId, agentId) => runRead(() => newest.get({ sessionId, agentId }) ?? null),
  }
}
