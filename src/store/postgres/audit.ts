import { type SQL, sql } from 'drizzle-orm'
import type { PgTable } from 'drizzle-orm/pg-core'
import { type AuditEntry, type AuditStore, merged, toAuditRow } from '../audit.ts'
import { isOrphan, type Postgres } from './postgres.ts'
import { agentRefusals, auditEntries, sessions } from './schema.ts'
import { insertInto, param, statement } from './statements.ts'

/** The audit trail in PostgreSQL: one row per session or agent, minute and kind, so refusals cannot fill the disk. */
export function postgresAudit(db: Postgres): AuditStore {
  return {
    async record(decision) {
      const statement = decision.sessionId === null ? recordRefusal : record
      await statement.run(db, toAuditRow(decision)).catch((error: unknown) => {
        if (!isOrphan(error)) throw error
      })
    },
    ofSession: (sessionId, limit) => ofSession.all(db, { sessionId, limit }),
    ofAgent: async (agentId, limit) => {
      const [entries, refusals] = await Promise.all([
        ofAgent.all(db, { agentId, limit }),
        refusalsOf.all(db, { agentId, limit }),
      ])
      return merged(entries, refusals, limit)
    },
  }
}

const counting = (name: string, table: PgTable, kind: SQL) =>
  statement(
    name,
    sql`${insertInto(table)} on conflict (${kind}) do update set count = ${table}.count + 1, last_at = excluded.last_at`,
  )
const record = counting('audit_record', auditEntries, sql`session_id, minute, agent_id, route, outcome`)
const recordRefusal = counting('refusal_record', agentRefusals, sql`agent_id, minute, route, outcome`)

const columns = sql`agent_id as "agentId", route, outcome, count, first_at as "firstAt", last_at as "lastAt"`
const newestFirst = sql`order by minute desc, last_at desc limit ${param('limit')}`
const entries = (name: string, which: SQL) =>
  statement<AuditEntry>(
    name,
    sql`select session_id as "sessionId", user_id as "userId", ${columns} from ${auditEntries}
      join ${sessions} on id = session_id where ${which} ${newestFirst}`,
  )
const ofSession = entries('audit_of_session', sql`session_id = ${param('sessionId')}`)
const ofAgent = entries('audit_of_agent', sql`agent_id = ${param('agentId')}`)
const refusalsOf = statement<Omit<AuditEntry, 'sessionId' | 'userId'>>(
  'refusals_of_agent',
  sql`select ${columns} from ${agentRefusals} where agent_id = ${param('agentId')} ${newestFirst}`,
)
