import { and, desc, eq, getTableColumns, isNull, type SQL, sql } from 'drizzle-orm'
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
  const ending = (...which: SQL[]) =>
    db
      .update(jobs)
      .set(ended)
      .where(and(isNull(jobs.end), ...which))
      .returning()
      .prepare()
  const endOne = ending(eq(jobs.id, param('id')), eq(jobs.agentId, param('agentId')))
  const endOthers = ending(eq(jobs.sessionId, param('sessionId')), sql`${jobs.id} <> ${param('id')}`)
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
