import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe } from 'vitest'
import { createAgentAccounts } from '../../src/agent/accounts.ts'
import { DEFAULT_SCOPES } from '../../src/auth/scopes.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import { type Agent, type Api, apiAt } from '../e2e/api.ts'
import { freeTcpPort } from '../e2e/processes.ts'
import { type Service, service } from '../e2e/service.ts'
import { type PostgresServer, postgresBin, startPostgres } from '../postgres-server.ts'
import { type Sfu, startSfu } from '../sfu.ts'
import { balancer } from './balancer.ts'

const canRun = postgresBin() !== null || process.env.BEHALF_REQUIRE_ALL === '1'
if (!canRun) console.log('skipped: no PostgreSQL server')

/** A suite that needs a PostgreSQL server. */
export const describeWithPostgres = describe.skipIf(!canRun)

/** The instances' LiveKit key pair, which also signs webhooks. */
export const LIVEKIT_KEY = { key: 'behalf-tests', secret: randomBytes(32).toString('hex') }

/** As in production, without limits: all the load comes from one address. */
const ENV = {
  NODE_ENV: 'production',
  PUBLIC_URL: 'https://behalf.test',
  LOG_LEVEL: 'warn',
  LIVEKIT_API_KEY: LIVEKIT_KEY.key,
  LIVEKIT_API_SECRET: LIVEKIT_KEY.secret,
  GUESTS: 'on',
  GUESTS_PER_ADDRESS_PER_HOUR: '1000000',
  SIGN_INS_PER_ADDRESS_PER_MINUTE: '0',
  REFRESHES_PER_ADDRESS_PER_MINUTE: '0',
  REQUESTS_PER_USER_PER_MINUTE: '0',
  READS_PER_USER_PER_MINUTE: '0',
  CONNECTIONS_PER_ADDRESS: '0',
  MAX_SESSIONS_PER_USER: '100',
}

export interface Instance {
  service: Service
  api: Api
}

export interface Instances {
  all: Instance[]
  a: Instance
  b: Instance
  /** Through the balancer. */
  api: Api
  sfu: Sfu
  postgres: PostgresServer
  /** The store as a command beside the service opens it. */
  store: Store
  /** The database itself. */
  sql<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]>
  /** A new agent account, with an access token. */
  agent(name: string): Promise<Agent>
}

interface Options {
  count?: number
  env?: Record<string, string>
  /** Where its files go. */
  within?: () => string
  /** What stands between the instances and the server: returns the URL by which they reach it. */
  through?: (postgres: PostgresServer) => Promise<string>
}

/** Built services on one PostgreSQL beside the fake SFU, for the tests of the enclosing `describe`. */
export function useInstances({ count = 2, env = {}, within, through }: Options = {}): () => Instances {
  let folder: string
  let postgres: PostgresServer | undefined
  let front: Awaited<ReturnType<typeof balancer>> | undefined
  let pool: pg.Pool | undefined
  let instances: Instances | undefined

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'behalf-instances-'))
    postgres = await startPostgres(within ? { within: within() } : {})
    const databaseUrl = (await through?.(postgres)) ?? postgres.url('postgres')
    const sfu = await startSfu()
    const all: Instance[] = []
    for (let i = 0; i < count; i++) {
      const settings = { ...ENV, ...env }
      const options = { folder, port: await freeTcpPort(), livekitUrl: sfu.url, databaseUrl, env: settings }
      const started = await service(options)
      all.push({ service: started, api: apiAt(started) })
    }
    // At once, on an empty database.
    await Promise.all(all.map(({ service }) => service.start()))
    front = await balancer(all.map(({ service }) => service.url))
    const store = await openStore(databaseUrl, { keepsTime: false, poolSize: 2 })
    const connections = new pg.Pool({ connectionString: databaseUrl, max: 2 })
    connections.on('error', () => {})
    pool = connections
    const api = apiAt({ ...(all[0] as Instance).service, url: front.url })
    const accounts = createAgentAccounts(store)
    instances = {
      all,
      a: all[0] as Instance,
      b: all[1] as Instance,
      api,
      sfu,
      postgres,
      store,
      sql: async (text, values) => (await connections.query(text, values)).rows,
      async agent(name) {
        const { id, secret } = await accounts.create(name, DEFAULT_SCOPES)
        return { id, secret, bearer: await api.agentToken(id, secret) }
      },
    }
  }, 120_000)

  beforeEach(({ onTestFailed }) => {
    onTestFailed(() => {
      for (const { service } of instances?.all ?? []) console.log(service.log().split('\n').slice(-30).join('\n'))
    })
  })

  afterAll(async () => {
    front?.close()
    await pool?.end()
    await instances?.store.close()
    await Promise.all((instances?.all ?? []).map(({ service }) => service.stop('SIGKILL')))
    postgres?.remove()
    await rm(folder, { recursive: true, force: true })
  })

  return () => {
    if (!instances) throw new Error('the instances are not up')
    return instances
  }
}
