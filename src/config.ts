import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { SCOPES, type Scope } from './auth/scopes.ts'
import { OperatorError } from './errors.ts'
import { isPrivateHost, proxyList } from './http/address.ts'
import { readOrigin } from './http/cors.ts'
import { nearestName } from './http/text.ts'
import { isPostgres } from './store/store.ts'

/** LiveKit's well-known development pair: anyone can mint tokens with it. */
const DEV_KEY = { key: 'devkey', secret: 'secret' }
const DEV_KEY_WARNING = "LiveKit's public development key pair (devkey/secret) is in use: anyone can mint tokens."
const LIVEKIT_PAIR = ['LIVEKIT_API_KEY', 'LIVEKIT_API_SECRET', 'LIVEKIT_API_SECRET_FILE'] as const
const DEV_LIVEKIT_URL = 'ws://127.0.0.1:7880'

export interface KeyPair {
  key: string
  secret: string
}

/** Settings that may be logged. Secrets are separate, in `Secrets`. */
export type Config = Readonly<ReturnType<typeof loadConfig>['config']>

export interface Secrets {
  livekit: KeyPair
  webhook: KeyPair
  /** The bearer token for `GET /metrics`; undefined if the route is off. */
  metrics: string | undefined
}

/** Thrown with every problem at once, one line each. */
export class ConfigError extends OperatorError {
  readonly problems: string[]
  constructor(problems: string[]) {
    super(`The settings are not usable:\n${problems.map((p) => `  - ${p}`).join('\n')}`)
    this.name = 'ConfigError'
    this.problems = problems
  }
}

const whole = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`
  const isInRange = (value: number) => value >= min && value <= max
  return z
    .string()
    .regex(/^\d{1,9}$/, message)
    .transform(Number)
    .refine(isInRange, message)
}
const url = (...protocols: string[]) =>
  z.string().refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol), {
    message: `must be a URL starting with ${protocols.map((p) => `${p}//`).join(' or ')}`,
  })

/** Clients and the service append to its path. Credentials in a URL are refused by `fetch`. */
const livekitUrl = () =>
  url('ws:', 'wss:', 'http:', 'https:').refine(
    (value) => !/[?#@]/.test(value),
    'must have no query, no fragment and no credentials; a path is fine',
  )

const list = () =>
  z.string().transform((value) =>
    value
      .split(',')
      .map((entry) => entry.trim())
      .filter(Boolean),
  )

function areProxies(entries: readonly string[]): boolean {
  try {
    proxyList(entries)
    return true
  } catch {
    return false
  }
}

/** RFC 6749 §3.3, in the form of the built-in scopes. */
const OWN_SCOPE = /^[a-z][a-z0-9_.-]{0,63}:[a-z][a-z0-9_.-]{0,63}$/
const scopes = () =>
  list()
    .refine((all) => all.every((scope) => OWN_SCOPE.test(scope)), 'must be like orders:write, separated by commas')
    .transform((all) => all as Scope[])

const ORIGIN_RULE =
  'must be origins such as https://app.example.com, or https://*.example.com for one level of subdomains'
const origins = () =>
  list().transform((entries, { addIssue }) =>
    entries.flatMap((entry) => {
      const origin = readOrigin(entry)
      if (origin === undefined) addIssue(`${ORIGIN_RULE}; ${entry} is not one`)
      return origin ?? []
    }),
  )

/** The driver would take an unknown `sslmode` for another one. */
const isDatabase = (value: string): boolean =>
  URL.canParse(value) &&
  new URL(value).pathname.length > 1 &&
  /^(disable|allow|prefer|require|verify-ca|verify-full)?$/.test(new URL(value).searchParams.get('sslmode') ?? '')

const MAX_RATE = 100_000_000

const Environment = z.object({
  // A misspelt `production` would run with development's defaults.
  NODE_ENV: z
    .enum(['development', 'test', 'production'], 'must be production, development or test')
    .default('development'),
  HOST: z.string().default('127.0.0.1'),
  PORT: whole(0, 65535).default(8008),
  PUBLIC_URL: url('http:', 'https:').optional(),
  DATABASE_URL: z
    .string()
    // What SQLite, the shell or a URL parser would read as something other than the path's characters.
    .refine(
      (value) => (isPostgres(value) ? isDatabase(value) : /^file:(?!\s|~|\/\/[^/])[^?#]+$/.test(value)),
      'must be file:<path> (SQLite), such as file:./data/behalf.db, or postgres://<user>:<password>@<host>/<database>; ' +
        'a path is without a host, ~, ? or #; sslmode is disable, allow, prefer, require, verify-ca or verify-full',
    )
    .default('file:./data/behalf.db'),
  DATABASE_URL_FILE: z.string().optional(),
  DATABASE_POOL_SIZE: whole(1, 1000).default(10),
  LIVEKIT_URL: livekitUrl().optional(),
  LIVEKIT_PUBLIC_URL: livekitUrl().optional(),
  LIVEKIT_API_KEY: z.string().optional(),
  LIVEKIT_API_SECRET: z.string().optional(),
  LIVEKIT_API_SECRET_FILE: z.string().optional(),
  LIVEKIT_WEBHOOK_API_KEY: z.string().optional(),
  LIVEKIT_WEBHOOK_API_SECRET: z.string().optional(),
  LIVEKIT_WEBHOOK_API_SECRET_FILE: z.string().optional(),
  CORS_ORIGINS: origins().optional(),
  GUESTS: z.enum(['on', 'off'], 'must be on or off').optional(),
  GUESTS_PER_ADDRESS_PER_HOUR: whole(1, 1_000_000).default(60),
  SIGN_INS_PER_ADDRESS_PER_MINUTE: whole(0, MAX_RATE).optional(),
  REFRESHES_PER_ADDRESS_PER_MINUTE: whole(0, MAX_RATE).optional(),
  REQUESTS_PER_USER_PER_MINUTE: whole(0, MAX_RATE).optional(),
  READS_PER_USER_PER_MINUTE: whole(0, MAX_RATE).optional(),
  REQUESTS_PER_AGENT_PER_MINUTE: whole(0, MAX_RATE).optional(),
  CONNECTIONS_PER_ADDRESS: whole(0, 1_000_000).optional(),
  TRUSTED_PROXIES: list().refine(areProxies, 'must be addresses or CIDR ranges, separated by commas').default([]),
  DEMO: z.enum(['on', 'off'], 'must be on or off').optional(),
  ROOM_POLICY: z.enum(['owner', 'open'], 'must be owner or open').default('owner'),
  DEFAULT_AGENT: z.string().optional(),
  AGENT_SCOPES: scopes().default([]),
  JOB_METADATA: z.enum(['client', 'json'], 'must be client or json').default('client'),
  SIP_TRUNK_ID: z.string().optional(),
  CALLS_PER_AGENT_PER_HOUR: whole(1, 1_000_000).default(60),
  MAX_SESSIONS_PER_USER: whole(1, 10_000).default(5),
  MAX_ROOMS_PER_USER: whole(1, 1_000_000).default(1000),
  MAX_EVENTS_PER_SESSION: whole(1, 10_000_000).default(10_000),
  MAX_EVENT_MIB_PER_SESSION: whole(1, 10_000).default(16),
  LIVENESS_SECONDS: whole(1, 60).default(10),
  RECONNECT_SECONDS: whole(1, 3600).default(60),
  RECONCILE_SECONDS: whole(1, 300).default(20),
  EVENT_RETENTION_DAYS: whole(1, 36_500).default(90),
  MAX_SESSION_MINUTES: whole(1, 10_080).default(1440),
  WRAP_UP_SECONDS: whole(0, 600).default(0),
  REQUIRE_ASSIGNMENT: z.enum(['on', 'off'], 'must be on or off').default('off'),
  METRICS_HOST: z.string().default('127.0.0.1'),
  METRICS_PORT: whole(1, 65535).optional(),
  METRICS_TOKEN: z
    .string()
    .regex(/^[\w\-.~+/]+=*$/, 'must have only letters, digits and - . _ ~ + /, as bearer tokens do')
    .optional(),
  METRICS_TOKEN_FILE: z.string().optional(),
  LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
})

type Env = z.infer<typeof Environment>
type Variables = Record<string, string | undefined>

/** The names of all settings. */
export const SETTINGS: readonly string[] = Object.keys(Environment.shape)

/** For those who decide before the settings are read as a whole. */
export const isProduction = (env: Variables) => env.NODE_ENV?.trim() === 'production'

/**
 * The settings of the schema, each read once, and what is wrong with them. White space at a value's ends is dropped:
 * env files with CR LF and secret stores add it, and every reader would treat it differently. Empty is not set.
 */
function readSettings<T extends z.ZodObject>(schema: T, env: Variables): { settings: z.infer<T>; problems: string[] } {
  const set: Variables = {}
  const problems: string[] = []
  for (const name of Object.keys(schema.shape)) {
    const value = fromFile(name, env, problems) ?? env[name]?.trim()
    if (value && /\p{Cc}/u.test(value)) problems.push(`${name}: must be a single line without control characters`)
    else if (value) set[name] = value
  }
  for (const { path, message } of schema.safeParse(set).error?.issues ?? []) {
    problems.push(`${path.join('.')}: ${message}`)
    // Left out, so that one start also shows what is missing or contradictory.
    delete set[String(path[0])]
  }
  return { settings: schema.parse(set), problems }
}

/** A container's secret: the content of the file that `<name>_FILE` names, where that is a setting. */
function fromFile(name: string, env: Variables, problems: string[]): string | undefined {
  const path = SETTINGS.includes(`${name}_FILE`) ? env[`${name}_FILE`]?.trim() : undefined
  if (!path) return undefined
  if (env[name]?.trim()) problems.push(`${name} and ${name}_FILE: set one of them`)
  try {
    const value = readFileSync(path, 'utf8').trim()
    if (value === '') problems.push(`${name}_FILE: ${path} is empty`)
    return value
  } catch (error) {
    problems.push(`${name}_FILE: ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`)
    return undefined
  }
}

const isSet = (env: Variables, name: keyof Env) => Boolean(env[name]?.trim())

const pair = (key?: string, secret?: string): KeyPair | undefined => (key && secret ? { key, secret } : undefined)

function readSome<T extends z.ZodObject>(schema: T, env: Variables): z.infer<T> {
  const { settings, problems } = readSettings(schema, env)
  if (problems.length > 0) throw new ConfigError(problems)
  return settings
}

/**
 * For commands that only open the store, without secrets.
 * @throws ConfigError as `loadConfig` would for DATABASE_URL and NODE_ENV
 */
export const databaseUrlOf = (env: Variables): string =>
  readSome(Environment.pick({ NODE_ENV: true, DATABASE_URL: true }), env).DATABASE_URL

/** The scopes that an agent account may have. @throws ConfigError as `loadConfig` would */
export const agentScopesOf = (env: Variables): readonly Scope[] => [
  ...SCOPES,
  ...readSome(Environment.pick({ AGENT_SCOPES: true }), env).AGENT_SCOPES,
]

/** One line for each variable whose name is nearly that of a setting that is not set: probably a typing error. */
export function misspelt(env: Variables): string[] {
  return Object.keys(env).flatMap((name) => {
    const meant = SETTINGS.includes(name) ? undefined : nearestName(name, SETTINGS)
    return meant === undefined || env[meant] ? [] : [`${name} is not a setting: is ${meant} meant?`]
  })
}

/**
 * Reads and checks the environment, once.
 * @throws ConfigError naming every problem; in production nothing that protects anything has a default.
 */
export function loadConfig(env: Variables) {
  const { settings: e, problems } = readSettings(Environment, env)
  const production = e.NODE_ENV === 'production'
  /** What is probably a mistake, or would be refused in production; show it prominently. */
  const warnings = misspelt(env)

  problems.push(...pairProblems('LIVEKIT', env, e), ...pairProblems('LIVEKIT_WEBHOOK', env, e))
  const isOwnPair = LIVEKIT_PAIR.some((name) => isSet(env, name))
  if (!isOwnPair && production) problems.push('LIVEKIT_API_KEY, LIVEKIT_API_SECRET: required in production')
  else if (!isOwnPair) warnings.push(`${DEV_KEY_WARNING}\nFine for development on this machine, never beyond it.`)
  if (production && e.LIVEKIT_API_KEY === DEV_KEY.key)
    problems.push('LIVEKIT_API_KEY: the development key is refused in production')
  const livekit = pair(e.LIVEKIT_API_KEY, e.LIVEKIT_API_SECRET) ?? DEV_KEY
  const webhook = pair(e.LIVEKIT_WEBHOOK_API_KEY, e.LIVEKIT_WEBHOOK_API_SECRET) ?? livekit
  if (production && !isSet(env, 'LIVEKIT_URL')) problems.push('LIVEKIT_URL: required in production')
  for (const name of ['LIVEKIT_URL', 'LIVEKIT_PUBLIC_URL'] as const) {
    if (production && e[name] !== undefined && isExposed(e[name]))
      problems.push(`${name}: must be wss:// in production, unless LiveKit is on this machine or a private network`)
  }

  const publicUrl = (e.PUBLIC_URL ?? `http://localhost:${e.PORT}`).replace(/\/+$/, '')
  if (production && !isSet(env, 'PUBLIC_URL'))
    problems.push('PUBLIC_URL: required in production (issuer and audience of tokens)')
  else if (production && e.PUBLIC_URL?.startsWith('https:') === false)
    problems.push('PUBLIC_URL: must be https:// in production')
  else if (/[?#]/.test(publicUrl)) problems.push('PUBLIC_URL: must have no query and no fragment (RFC 8414 §2)')

  if (production) problems.push(...weaknesses('METRICS_TOKEN', e.METRICS_TOKEN))
  if (e.METRICS_PORT !== undefined && e.METRICS_TOKEN !== undefined)
    problems.push('METRICS_PORT and METRICS_TOKEN: set one of them; the port asks for no token')
  if (e.METRICS_PORT === e.PORT) problems.push('METRICS_PORT: must differ from PORT')

  if (problems.length > 0) throw new ConfigError(problems)
  return {
    config: {
      production,
      host: e.HOST,
      port: e.PORT,
      /** Issuer and audience of the service's tokens; no trailing slash. */
      publicUrl,
      /** May hold a password: never log it. */
      databaseUrl: e.DATABASE_URL,
      /** Connections to PostgreSQL at once. */
      databasePoolSize: e.DATABASE_POOL_SIZE,
      /** Where the service itself reaches LiveKit. */
      livekitUrl: e.LIVEKIT_URL ?? DEV_LIVEKIT_URL,
      /** What clients get. */
      livekitPublicUrl: e.LIVEKIT_PUBLIC_URL ?? e.LIVEKIT_URL ?? DEV_LIVEKIT_URL,
      /** As browsers write them, some with `*` for one label; `'local'` for any of this machine and its network. */
      corsOrigins: e.CORS_ORIGINS ?? (production ? [] : ('local' as const)),
      guests: e.GUESTS ? e.GUESTS === 'on' : !production,
      guestsPerAddressPerHour: e.GUESTS_PER_ADDRESS_PER_HOUR,
      /** Register, login and password changes; also the limit of agents' failed token requests. 0 is no limit, here and below. */
      signInsPerAddressPerMinute: e.SIGN_INS_PER_ADDRESS_PER_MINUTE ?? (production ? 60 : 0),
      refreshesPerAddressPerMinute: e.REFRESHES_PER_ADDRESS_PER_MINUTE ?? (production ? 600 : 0),
      /** Join tokens and rooms. */
      requestsPerUserPerMinute: e.REQUESTS_PER_USER_PER_MINUTE ?? (production ? 60 : 0),
      /** GET and DELETE under /sessions, and /auth/me. */
      readsPerUserPerMinute: e.READS_PER_USER_PER_MINUTE ?? (production ? 600 : 0),
      requestsPerAgentPerMinute: e.REQUESTS_PER_AGENT_PER_MINUTE ?? (production ? 60_000 : 0),
      /** Open connections per peer; trusted proxies are exempt. */
      connectionsPerAddress: e.CONNECTIONS_PER_ADDRESS ?? (production ? 256 : 0),
      /** Addresses and CIDR ranges whose X-Forwarded-For is trusted. */
      trustedProxies: e.TRUSTED_PROXIES,
      /** Serves the demo page at /demo. */
      demo: e.DEMO ? e.DEMO === 'on' : !production,
      roomPolicy: e.ROOM_POLICY,
      defaultAgent: e.DEFAULT_AGENT,
      /** The service's own scopes, and a team's. */
      agentScopes: [...SCOPES, ...e.AGENT_SCOPES] as readonly Scope[],
      /** What a job's metadata is: JSON with the pair, for agents that read it there, or the client's string alone. */
      jobMetadata: e.JOB_METADATA,
      /** LiveKit's outbound trunk for calls to phones; without one there are none. */
      sipTrunkId: e.SIP_TRUNK_ID,
      callsPerAgentPerHour: e.CALLS_PER_AGENT_PER_HOUR,
      maxSessionsPerUser: e.MAX_SESSIONS_PER_USER,
      /** Names that a user may have claimed at once. */
      maxRoomsPerUser: e.MAX_ROOMS_PER_USER,
      maxEventsPerSession: e.MAX_EVENTS_PER_SESSION,
      maxEventBytesPerSession: e.MAX_EVENT_MIB_PER_SESSION * 1024 * 1024,
      livenessSeconds: e.LIVENESS_SECONDS,
      reconnectSeconds: e.RECONNECT_SECONDS,
      reconcileSeconds: e.RECONCILE_SECONDS,
      /** Days that an ended session is kept with its events. */
      eventRetentionDays: e.EVENT_RETENTION_DAYS,
      maxSessionMinutes: e.MAX_SESSION_MINUTES,
      wrapUpSeconds: e.WRAP_UP_SECONDS,
      /** Only the account that was given the session's job through the gateway may act for it. */
      requireAssignment: e.REQUIRE_ASSIGNMENT === 'on',
      /** Where metrics are served without a token; undefined for nowhere. */
      metricsPort: e.METRICS_PORT,
      metricsHost: e.METRICS_HOST,
      logLevel: e.LOG_LEVEL,
    },
    secrets: { livekit, webhook, metrics: e.METRICS_TOKEN } satisfies Secrets,
    warnings,
  }
}

/** What is wrong with a key pair that is set. */
function pairProblems(prefix: 'LIVEKIT' | 'LIVEKIT_WEBHOOK', env: Variables, e: Env): string[] {
  const name = `${prefix}_API_SECRET` as const
  const hasSecret = isSet(env, name) || isSet(env, `${name}_FILE`)
  if (isSet(env, `${prefix}_API_KEY`) !== hasSecret) return [`${prefix}_API_KEY and ${name}: set both or neither`]
  return e.NODE_ENV === 'production' ? weaknesses(name, e[name]) : []
}

/** Without TLS, to a host that the public Internet leads to: tokens and API calls can be read on the way. */
function isExposed(url: string): boolean {
  const { protocol, hostname } = new URL(url)
  return (protocol === 'ws:' || protocol === 'http:') && !isPrivateHost(hostname)
}

/** One text again and again, or words that examples put where a secret belongs. */
const PLACEHOLDER =
  /^(.{1,16}?)\1+.{0,15}$|change.?me|replace.?(me|this|with)|your.{0,12}(secret|key)|placeholder|example|^</i

/** RFC 7518 §3.2: an HS256 key of fewer than 256 bits is refused; LiveKit itself asks for 32 characters. */
function weaknesses(name: string, secret: string | undefined): string[] {
  if (secret === undefined) return []
  if (secret.length < 32) return [`${name}: must be at least 32 characters in production`]
  const canBeGuessed = new Set(secret).size < 8 || PLACEHOLDER.test(secret)
  return canBeGuessed ? [`${name}: can be guessed; generate one, for example with: openssl rand -hex 32`] : []
}
