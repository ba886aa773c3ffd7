import { asc, eq, getTableColumns, sql } from 'drizzle-orm'
import type { SQLiteUpdateSetSource } from 'drizzle-orm/sqlite-core'
import { type Agent, type AgentRow, type AgentStore, toAgent, toAgentRow } from '../agents.ts'
import { runRead, type Write } from './group-commit.ts'
import { agents } from './schema.ts'
import { type Db, param, values } from './sqlite.ts'

const orNull = (row: AgentRow | undefined): Agent | null => (row ? toAgent(row) : null)

/** Agent accounts in SQLite. Nothing is cached: another process's write takes effect at the next read. */
export function sqliteAgents(db: Db, write: Write): AgentStore {
  const withId = eq(agents.id, param('id'))
  const find = db.select().from(agents).where(withId).prepare()
  const list = db.select().from(agents).orderBy(asc(agents.createdAt), asc(agents.id)).prepare()
  const any = db.select({ id: agents.id }).from(agents).limit(1).prepare()
  const insert = db
    .insert(agents)
    .values(values(getTableColumns(agents)))
    .onConflictDoNothing()
    .returning({ id: agents.id })
    .prepare()
  const update = (set: SQLiteUpdateSetSource<typeof agents>) =>
    db.update(agents).set(set).where(withId).returning().prepare()
  const setRights = update({
    scopes: sql`coalesce(${param('scopes')}, ${agents.scopes})`,
    summon: sql`coalesce(${param('summon')}, ${agents.summon})`,
  })
  const disable = update({ disabledAt: sql`coalesce(${agents.disabledAt}, ${param('now')})` })
  const enable = update({
    disabledAt: null,
    generation: sql`${agents.generation} + (${agents.disabledAt} is not null)`,
  })
  const newSecret = { secretHash: sql`${param('secretHash')}`, sealedSecret: sql`${param('sealedSecret')}` }
  const replaceSecret = update({
    ...newSecret,
    oldSecretHash: null,
    oldSealedSecret: null,
    oldSecretUntil: null,
    generation: sql`${agents.generation} + 1`,
  })
  const addSecret = update({
    ...newSecret,
    // SQLite reads the row as it was before this update.
    oldSecretHash: sql`${agents.secretHash}`,
    oldSealedSecret: sql`${agents.sealedSecret}`,
    oldSecretUntil: sql`${param('oldUntil')}`,
  })

  const inserted = (agent: Agent) => insert.get({ ...toAgentRow(agent) }) !== undefined

  return {
    insertAgent: (agent) => write(() => inserted(agent)),
    // The write holds the file's write lock, so no other process can insert between the check and the insert.
    insertFirstAgent: (agent) => write(() => any.get() === undefined && inserted(agent)),
    findAgent: (id) => runRead(() => orNull(find.get({ id }))),
    listAgents: () => runRead(() => list.all().map(toAgent)),
    setRights: (id, { scopes, summon }) =>
      write(() => orNull(setRights.get({ id, scopes: scopes?.join(' ') ?? null, summon: summon ?? null }))),
    disableAgent: (id, now) => write(() => orNull(disable.get({ id, now }))),
    enableAgent: (id) => write(() => orNull(enable.get({ id }))),
    replaceSecret: (id, secret) => write(() => orNull(replaceSecret.get({ id, ...secret }))),
    addSecret: (id, secret, oldUntil) => write(() => orNull(addSecret.get({ id, ...secret, oldUntil }))),
  }
}
