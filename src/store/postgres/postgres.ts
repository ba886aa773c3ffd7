import { fileURLToPath } from 'node:url'
import { readMigrationFiles } from 'drizzle-orm/migrator'
import pg from 'pg'
import { AppError, OperatorError } from '../../errors.ts'

/** One statement with its values; a named one is parsed once per connection. */
interface Query {
  name?: string
  text: string
  values?: unknown[]
}

/** What statements run on: the pool, or the one connection of a transaction. */
export interface Connection {
  /** @throws AppError `store_unavailable` when PostgreSQL does not answer or refuses for now */
  query<Row>(query: Query): Promise<{ rows: Row[]; rowCount: number }>
}

export interface Postgres extends Connection {
  /**
   * Runs `work` in a READ COMMITTED transaction, and again after a deadlock. `begin` is pipelined with the first
   * statement, and the commit with the last one if `work` calls `commit` right after sending it: no pause in between.
   */
  transaction<T>(work: (on: Connection, commit: () => void) => Promise<T>): Promise<T>
  /** A connection of its own, outside the pool. @throws the driver's error */
  connect(): Promise<pg.Client>
  close(): Promise<void>
}

/** Milliseconds. A statement that takes longer is cancelled, so that no request and no lock waits for ever. */
const TIMEOUTS = { connection: 5000, statement: 10_000, lock: 5000, idleInTransaction: 10_000, answer: 15_000 }

/** Attempts at a transaction that PostgreSQL keeps choosing as a deadlock's victim. */
const MAX_ATTEMPTS = 5

const MIGRATIONS = fileURLToPath(new URL('../../../drizzle/postgres', import.meta.url))
/** Key of the advisory lock under which one instance migrates. */
const MIGRATION_LOCK = 0x6265_6861
const MIGRATIONS_TABLE = '__behalf_migrations'

/**
 * Sent first on each connection. An answer must not leave before its commit is durable, so a role's or database's weaker
 * `synchronous_commit` is raised; a stronger one stays. Hash and merge joins are off: the planner takes a list passed as
 * JSON for a hundred rows, and would then read a table of thousands whole, where an index finds the few that are needed.
 */
const SETTINGS = `select set_config('synchronous_commit', 'on', false)
    where current_setting('synchronous_commit') not in ('on', 'remote_apply')
  union all select set_config('statement_timeout', '${TIMEOUTS.statement}', false)
  union all select set_config('lock_timeout', '${TIMEOUTS.lock}', false)
  union all select set_config('idle_in_transaction_session_timeout', '${TIMEOUTS.idleInTransaction}', false)
  union all select set_config('default_transaction_isolation', 'read committed', false)
  union all select set_config('enable_hashjoin', 'off', false)
  union all select set_config('enable_mergejoin', 'off', false)`

/** A bigint is read as a number: times and counts stay below 2⁵³. */
const types: pg.CustomTypesConfig = {
  getTypeParser: (oid, format) => (oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format)),
}

/** Whether opening may migrate the schema: a command leaves that of a store in use alone. */
export type Migrates = 'always' | 'when empty' | 'never'

/** Connects to the database, migrates it, and keeps at most `poolSize` connections. @throws OperatorError */
export async function openPostgres(url: string, poolSize: number, migrates: Migrates): Promise<Postgres> {
  const options = await start(url, migrates).catch((error) => {
    throw asOperatorError(error, url)
  })
  const pool = new pg.Pool({
    ...options,
    query_timeout: TIMEOUTS.answer,
    max: poolSize,
    pipeline: true,
    onConnect: async (client) => {
      client.on('error', () => {})
      await client.query(SETTINGS)
    },
  })
  pool.on('error', () => {})

  async function attempt<T>(work: (on: Connection, commit: () => void) => Promise<T>): Promise<T> {
    const client = await pool.connect().catch(fail)
    let isUsable = false
    let committed: Promise<unknown> | undefined
    const commit = () => {
      committed ??= client.query('commit')
      committed.catch(() => {})
    }
    try {
      // Not awaited: if it fails, so does the statement after it.
      client.query('begin isolation level read committed').catch(() => {})
      const value = await work(connectionOf(client), commit)
      commit()
      await committed?.catch(fail)
      isUsable = true
      return value
    } catch (error) {
      isUsable = await client.query('rollback').then(
        () => true,
        () => false,
      )
      throw error
    } finally {
      client.release(!isUsable)
    }
  }

  return {
    ...connectionOf(pool),
    async transaction(work) {
      for (let i = 1; ; i++) {
        try {
          return await attempt(work)
        } catch (error) {
          if (!isRaceLost(error) || i === MAX_ATTEMPTS) throw error
        }
      }
    },
    connect: () => connect(options),
    close: async () => {
      if (!pool.ending) await pool.end()
    },
  }
}

const connectionOf = (queryable: pg.Pool | pg.PoolClient): Connection => ({
  query: (query) => queryable.query(query).catch(fail) as never,
})

/** Connects and migrates. Returns the options that all other connections are made with. */
async function start(url: string, migrates: Migrates): Promise<pg.ClientConfig> {
  const mode = new URL(url).searchParams.get('sslmode') ?? ''
  let options = optionsOf(url, mode === 'allow' ? 'disable' : mode)
  const client = await connect(options).catch((error: unknown) => {
    const other = SECOND_TRY[mode]
    if (!other || !isAboutTls(error)) throw error
    options = optionsOf(url, other)
    return connect(options)
  })
  try {
    // An instance that is paused while it migrates must not keep the others from starting.
    await client.query(`set idle_in_transaction_session_timeout = ${TIMEOUTS.idleInTransaction}`)
    await assertOwnConnections(client, options, url)
    await migrate(client, migrates, url)
  } finally {
    await client.end()
  }
  return options
}

/** libpq's second try, after the server refused the first one: without TLS for `allow`, with it for `prefer`. */
const SECOND_TRY: Record<string, string> = { allow: 'prefer', prefer: 'disable' }

/** Whether the server has no TLS, or its pg_hba.conf refuses a connection with or without it. */
const isAboutTls = (error: unknown): boolean =>
  codeOf(error) === '28000' || (error instanceof Error && error.message.startsWith(NO_TLS))

function optionsOf(url: string, sslmode: string): pg.ClientConfig {
  const parsed = new URL(url)
  if (sslmode) {
    parsed.searchParams.set('sslmode', sslmode)
    // With libpq's meaning: the driver alone reads `require` as `verify-full`.
    parsed.searchParams.set('uselibpqcompat', 'true')
  }
  return {
    connectionString: parsed.href,
    connectionTimeoutMillis: TIMEOUTS.connection,
    keepAlive: true,
    application_name: 'behalf',
    enableChannelBinding: !['', 'disable'].includes(sslmode),
    types,
  }
}

async function connect(options: pg.ClientConfig): Promise<pg.Client> {
  const client = new pg.Client(options)
  // Without a listener a lost connection would end the process.
  client.on('error', () => {})
  await client.connect()
  return client
}

/** @throws OperatorError when a pooler does not keep a connection to PostgreSQL for each of its clients */
async function assertOwnConnections(client: pg.Client, options: pg.ClientConfig, url: string): Promise<void> {
  const backendOf = async (one: pg.Client): Promise<number> =>
    (await one.query('select pg_backend_pid() as pid')).rows[0].pid
  const pid = await backendOf(client)
  // A pooler announces an id of its own.
  if ((client as { processID?: number }).processID === pid) return
  const other = await connect(options)
  try {
    // An idle pooler gives both clients the same backend; a busy one switches each client's.
    for (let i = 0; i < 10; i++) {
      if ((await backendOf(other)) === pid || (await backendOf(client)) !== pid) {
        throw new OperatorError(
          `${shown(url)} is a pooler that shares connections between clients, as PgBouncer does unless pool_mode = session. ` +
            'Prepared statements, settings and notifications would be lost: name PostgreSQL itself, or a pool with that mode.',
        )
      }
    }
  } finally {
    await other.end()
  }
}

/** Applies the migrations that the database lacks; of instances that start together, one does. */
async function migrate(client: pg.Client, migrates: Migrates, url: string): Promise<void> {
  const migrations = readMigrationFiles({ migrationsFolder: MIGRATIONS })
  const latest = Math.max(...migrations.map(({ folderMillis }) => folderMillis))
  await client.query('begin')
  await client.query(`select pg_advisory_xact_lock(${MIGRATION_LOCK})`)
  const exists = await client.query(`select to_regclass('${MIGRATIONS_TABLE}') is not null as yes`)
  if (!exists.rows[0].yes) {
    if (migrates === 'never') {
      throw new OperatorError(
        `There is no store at ${shown(url)}: check DATABASE_URL, or start the service to create it.`,
      )
    }
    await client.query(`create table ${MIGRATIONS_TABLE} (created_at bigint primary key, hash text not null)`)
  }
  const last = await client.query(`select coalesce(max(created_at), 0) as at from ${MIGRATIONS_TABLE}`)
  const version: number = last.rows[0].at
  if (migrates !== 'always' && version !== 0 && version !== latest) {
    throw new OperatorError(
      version < latest
        ? `${shown(url)} belongs to an older version of the service: start the service with this version first.`
        : `${shown(url)} belongs to a newer version of the service: run this command from that version.`,
    )
  }
  for (const { folderMillis, hash, sql: statements } of migrations) {
    if (folderMillis <= version) continue
    for (const statement of statements) await client.query(statement)
    await client.query(`insert into ${MIGRATIONS_TABLE} values ($1, $2)`, [folderMillis, hash])
  }
  await client.query('commit')
}

/** Errors of these classes are bugs: data exceptions and violated constraints. */
const BUG = /^2[23]/
/** A `\u0000` within JSON. */
const HAS_NUL = '22P05'
const RACE_LOST = ['40001', '40P01']

const codeOf = (error: unknown) => (error instanceof pg.DatabaseError ? (error.code ?? '') : undefined)

/** Whether another transaction's success made this one fail. */
export const isRaceLost = (error: unknown): boolean =>
  RACE_LOST.includes(codeOf(error instanceof AppError ? error.cause : error) ?? '')

/** Whether a unique index refused the row. */
export const isDuplicate = (error: unknown): boolean => codeOf(error) === '23505'

/** Whether the row references one that was deleted meanwhile. */
export const isOrphan = (error: unknown): boolean => codeOf(error) === '23503'

/** A lost connection and PostgreSQL's refusals (timeouts, too many clients, disk full, read-only) become a 503. */
function fail(error: unknown): never {
  // Both repeat the statement's values, such as e-mail addresses, and errors are logged.
  if (error instanceof pg.DatabaseError) Object.assign(error, { detail: undefined, where: undefined })
  if (codeOf(error) === HAS_NUL)
    throw new AppError('validation_failed', 'A text contains NUL (U+0000), which cannot be stored.')
  if (BUG.test(codeOf(error) ?? '') || error instanceof TypeError) throw error
  throw unavailable(error)
}

export const unavailable = (cause: unknown) =>
  new AppError('store_unavailable', 'The database is unavailable right now.', { cause, retryAfterSeconds: 1 })

/** How the driver's error begins. */
const NO_TLS = 'The server does not support SSL'
const UNTRUSTED = 'its certificate is not signed by an authority that sslrootcert names, or that Node.js knows'

/** What to do when PostgreSQL cannot be used at the start, by a prefix of the error's code, or else of its message. */
const ADVICE = {
  ECONNREFUSED: 'no server listens there: start it, or correct the host and port',
  ENOENT: 'the socket or certificate does not exist: start the server, or correct the path',
  ENOTFOUND: 'the host name cannot be resolved: correct it',
  EAI_AGAIN: 'the name server does not answer',
  '28000':
    'the server refuses this user, or wants TLS or a client certificate: set sslmode, sslcert and sslkey in the URL',
  '28P': 'the server refuses this user or password',
  [NO_TLS]: 'the server has no TLS: turn it on there, or set sslmode=disable where the network is trusted',
  UNABLE_TO_: UNTRUSTED,
  SELF_SIGNED_: UNTRUSTED,
  DEPTH_ZERO_: UNTRUSTED,
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'the server does not trust the certificate that sslcert names',
  'SECURITY WARNING: Using sslmode=verify-ca': 'sslmode=verify-ca needs sslrootcert: add it, or use verify-full',
  ERR_TLS_CERT_ALTNAME: 'its certificate is for another host: correct the host, or the certificate',
  '3D000': 'the database does not exist: create it first, for example with createdb',
  '42501': 'this user may not create tables there: make it the owner of the database',
  '53': 'the server has no resources left, such as connections or disk space',
  '57P03': 'the server is starting or stopping: try again',
  '25006': 'it is a read-only replica: name the primary server',
}

function asOperatorError(error: unknown, url: string): unknown {
  if (error instanceof OperatorError) return error
  const { code = '', message } = error as { code?: string; message: string }
  const advice = Object.entries(ADVICE).find(([beginning]) => (code || message).startsWith(beginning))?.[1]
  const said = error instanceof pg.DatabaseError ? ` (${message})` : ''
  return new OperatorError(
    `DATABASE_URL: ${shown(url)} cannot be used${code ? ` (${code})` : ''}: ${advice ? advice + said : message}.`,
    { cause: error },
  )
}

/** The URL without credentials and parameters. */
export function shown(url: string): string {
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname}`
}
