import { desc, eq, getTableColumns, sql } from 'drizzle-orm'
import { type AuditStore, merged, toAuditRow } from '../audit.ts'
import { runRead, type Write } from './group-commit.ts'
import { agentRefusals, auditEntries, sessions } from './schema.ts'
import { type Db, param, unlessOrphan, values } from './sqlite.ts'

const { minute: _, ...entryColumns } = getTableColumns(auditEntries)

/** The audit trail in SQLite: one row per session or agent, minute and kind of decision, so refusals cannot fill the disk. */
export function sqliteAudit(db: Db, write: Write): AuditStore {
  const record = db
    .insert(auditEntries)
    .values(values(getTableColumns(auditEntries)))
    .onConflictDoUpdate({
      target: [
        auditEntries.sessionId,
        auditEntries.minute,
        auditEntries.agentId,
        auditEntries.route,
        auditEntries.outcome,
      ],
      set: { count: sql`${auditEntries.count} + 1`, lastAt: sql`excluded.last_at` },
    })
    .prepare()
  const recordRefusal = db
    .insert(agentRefusals)
    .values(values(getTableColumns(agentRefusals)))
    .onConflictDoUpdate({
      target: [agentRefusals.agentId, agentRefusals.minute, agentRefusals.route, agentRefusals.outcome],
      set: { count: sql`${agentRefusals.count} + 1`, lastAt: sql`excluded.last_at` },
    })
    .prepare()
  const refusalsOf = db
    .select()
    .from(agentRefusals)
    .where(eq(agentRefusals.agentId, param('agentId')))
    .orderBy(desc(agentRefusals.minute), desc(agentRefusals.lastAt))
    .limit(param('limit'))
    .prepare()
  const select = () =>
    db
      .select({ ...entryColumns, userId: sessions.userId })
      .from(auditEntries)
      .innerJoin(sessions, eq(sessions.id, auditEntries.sessionId))
  const newestFirst = [desc(auditEntries.minute), desc(auditEntries.lastAt)]
  const ofSession = select()
    .where(eq(auditEntries.sessionId, param('sessionId')))
    .orderBy(...newestFirst)
    .limit(param('limit'))
    .prepare()
  const ofAgent = select()
    .where(eq(auditEntries.agentId, param('agentId')))
    .orderBy(...newestFirst)
    .limit(param('limit'))
    .prepare()
  return {
    record: (decision) =>
      write(() => {
        const statement = decision.sessionId === null ? recordRefusal : record
        unlessOrphan(() => statement.run(toAuditRow(decision)))
      }),
    ofSession: (sessionId, limit) => runRead(() => ofSession.all({ sessionId, limit })),
    ofAgent: (agentId, limit) =>
      runRead(() => merged(ofAgent.all({ agentId, limit }), refusalsOf.all({ agentId, limit }), limit)),
  }
}
