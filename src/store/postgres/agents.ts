import { type SQL, sql } from 'drizzle-orm'
import { type AgentRow, type AgentStore, toAgent, toAgentRow } from '../agents.ts'
import type { Postgres } from './postgres.ts'
import { agents } from './schema.ts'
import { insertInto, param, selected, statement } from './statements.ts'

/** Agent accounts in PostgreSQL. Nothing is cached: another process's write takes effect at the next read. */
export function postgresAgents(db: Postgres): AgentStore {
  const orNull = (row: AgentRow | undefined) => (row ? toAgent(row) : null)
  return {
    insertAgent: async (agent) => (await insert.run(db, { ...toAgentRow(agent) })) > 0,
    insertFirstAgent: (agent) =>
      db.transaction(async (on) => {
        await lockTable.run(on)
        return (await any.get(on)) === undefined && (await insert.run(on, { ...toAgentRow(agent) })) > 0
      }),
    findAgent: async (id) => orNull(await find.get(db, { id })),
    listAgents: async () => (await list.all(db)).map(toAgent),
    setRights: async (id, { scopes, summon }) =>
      orNull(await setRights.get(db, { id, scopes: scopes?.join(' ') ?? null, summon: summon ?? null })),
    disableAgent: async (id, now) => orNull(await disable.get(db, { id, now })),
    enableAgent: async (id) => orNull(await enable.get(db, { id })),
    replaceSecret: async (id, secret) => orNull(await replaceSecret.get(db, { id, ...secret })),
    addSecret: async (id, secret, oldUntil) => orNull(await addSecret.get(db, { id, ...secret, oldUntil })),
  }
}

const select = sql`select ${selected(agents)} from ${agents}`
const find = statement<AgentRow>('agent', sql`${select} where id = ${param('id')}`)
const list = statement<AgentRow>('agents', sql`${select} order by created_at, id`)
const any = statement('agent_any', sql`select from ${agents} limit 1`)
/** Other transactions may read, not insert. */
const lockTable = statement('agents_lock', sql`lock table ${agents} in share row exclusive mode`)
const insert = statement('agent_insert', sql`${insertInto(agents)} on conflict do nothing`)
/** The expressions read the row as it was before. */
const update = (name: string, set: SQL) =>
  statement<AgentRow>(name, sql`update ${agents} set ${set} where id = ${param('id')} returning ${selected(agents)}`)
const setRights = update(
  'agent_rights',
  sql`scopes = coalesce(${param('scopes')}, scopes), summon = coalesce(${param('summon')}, summon)`,
)
const disable = update('agent_disable', sql`disabled_at = coalesce(disabled_at, ${param('now')})`)
const enable = update(
  'agent_enable',
  sql`disabled_at = null, generation = generation + (disabled_at is not null)::integer`,
)
const newSecret = sql`secret_hash = ${param('secretHash')}, sealed_secret = ${param('sealedSecret')}`
const replaceSecret = update(
  'agent_replace_secret',
  sql`${newSecret}, old_secret_hash = null, old_sealed_secret = null, old_secret_until = null,
    generation = generation + 1`,
)
const addSecret = update(
  'agent_add_secret',
  sql`${newSecret}, old_secret_hash = secret_hash, old_sealed_secret = sealed_secret,
    old_secret_until = ${param('oldUntil')}`,
)
