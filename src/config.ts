import { z } from 'zod'
import { SCOPES, type Scope } from './auth/scopes.ts'
import { proxyList } from './http/address.ts'

/** LiveKit's well-known development pair: anyone can mint tokens with it. */
const DEV_KEY = { key: 'devkey', secret: 'secret' }

export interface KeyPair {
  key: string
  secret: string
}

/** Settings that may be logged. Secrets are separate, in `Secrets`. */
export type Config = Readonly<ReturnType<typeof loadConfig>['config']>

export interface Secrets {
  livekit: KeyPair
  webhook: KeyPair
}

/** Thrown with every problem at once, one line each. */
export class ConfigError extends Error {
  readonly problems: string[]
  constructor(problems: string[]) {
    super(`The settings are not usable:\n${problems.map((p) => `  - ${p}`).join('\n')}`)
    this.name = 'ConfigError'
    this.problems = problems
  }
}

const whole = (min: number, max: number) =>
  z.coerce.number('must be a number').int('must be a whole number').min(min).max(max)
const url = (...protocols: string[]) =>
  z.string().refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol), {
    message: `must be a URL starting with ${protocols.map((p) => `${p}//`).join(' or ')}`,
  })

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
    .regex(/^file:.+/, 'must be file:<path> (SQLite)')
    .default('file:./data/behalf.db'),
  LIVEKIT_URL: url('ws:', 'wss:', 'http:', 'https:').optional(),
  LIVEKIT_API_KEY: z.string().optional(),
  LIVEKIT_API_SECRET: z.string().optional(),
  LIVEKIT_WEBHOOK_API_KEY: z.string().optional(),
  LIVEKIT_WEBHOOK_API_SECRET: z.string().optional(),
  CORS_ORIGINS: z.string().optional(),
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
  MAX_SESSIONS_PER_USER: whole(1, 10_000).default(5),
  LIVENESS_SECONDS: whole(1, 60).default(10),
  RECONNECT_SECONDS: whole(1, 3600).default(60),
  RECONCILE_SECONDS: whole(1, 300).default(20),
  EVENT_RETENTION_DAYS: whole(1, 36_500).default(90),
  MAX_SESSION_MINUTES: whole(1, 10_080).default(1440),
  WRAP_UP_SECONDS: whole(0, 600).default(0),
  LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
})

type Variables = Record<string, string | undefined>

const problemOf = ({ path, message }: z.core.$ZodIssue) => `${path.join('.')}: ${message}`

/** An empty setting counts as not set. */
const settingsIn = (env: Variables) =>
  Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''))

/**
 * For commands that only open the store, without secrets.
 * @throws ConfigError as `loadConfig` would for DATABASE_URL and NODE_ENV
 */
export function databaseUrlOf(env: Variables): string {
  const { data, error } = Environment.pick({ NODE_ENV: true, DATABASE_URL: true }).safeParse(settingsIn(env))
  if (error) throw new ConfigError(error.issues.map(problemOf))
  return data.DATABASE_URL
}

/** The scopes that an agent account may have. @throws ConfigError as `loadConfig` would */
export function agentScopesOf(env: Variables): readonly Scope[] {
  const { data, error } = Environment.pick({ AGENT_SCOPES: true }).safeParse(settingsIn(env))
  if (error) throw new ConfigError(error.issues.map(problemOf))
  return [...SCOPES, ...data.AGENT_SCOPES]
}

/**
 * Reads and checks the environment, once.
 * @throws ConfigError naming every problem; in production nothing that protects anything has a default.
 */
export function loadConfig(env: Variables) {
  const set = settingsIn(env)
  const { issues = [] } = Environment.safeParse(set).error ?? {}
  const problems = issues.map(problemOf)
  // Unreadable settings are left out, so that one start also shows what is missing or contradictory.
  const unreadable = new Set(issues.map(({ path }) => path[0]))
  const e = Environment.parse(Object.fromEntries(Object.entries(set).filter(([name]) => !unreadable.has(name))))
  const production = e.NODE_ENV === 'production'
  /** What production would refuse; show it prominently. */
  const warnings: string[] = []

  const livekit = livekitPair(e, production, problems, warnings)
  const webhook = webhookPair(e, livekit, production, problems)
  if (production && !set.LIVEKIT_URL) problems.push('LIVEKIT_URL: required in production')

  const publicUrl = (e.PUBLIC_URL ?? `http://localhost:${e.PORT}`).replace(/\/+$/, '')
  if (production && !set.PUBLIC_URL) problems.push('PUBLIC_URL: required in production (issuer and audience of tokens)')
  else if (production && e.PUBLIC_URL?.startsWith('https:') === false)
    problems.push('PUBLIC_URL: must be https:// in production')
  else if (/[?#]/.test(publicUrl)) problems.push('PUBLIC_URL: must have no query and no fragment (RFC 8414 §2)')

  if (problems.length > 0) throw new ConfigError(problems)
  return {
    config: {
      production,
      host: e.HOST,
      port: e.PORT,
      /** Issuer and audience of the service's tokens; no trailing slash. */
      publicUrl,
      databaseUrl: e.DATABASE_URL,
      livekitUrl: e.LIVEKIT_URL ?? 'ws://127.0.0.1:7880',
      corsOrigins: corsOrigins(e.CORS_ORIGINS, production),
      guests: e.GUESTS ? e.GUESTS === 'on' : !production,
      guestsPerAddressPerHour: e.GUESTS_PER_ADDRESS_PER_HOUR,
      /** Register and login, and the same number of agents' token requests; 0 is no limit, here and below. */
      signInsPerAddressPerMinute: e.SIGN_INS_PER_ADDRESS_PER_MINUTE ?? (production ? 60 : 0),
      refreshesPerAddressPerMinute: e.REFRESHES_PER_ADDRESS_PER_MINUTE ?? (production ? 600 : 0),
      /** Join tokens and rooms. */
      requestsPerUserPerMinute: e.REQUESTS_PER_USER_PER_MINUTE ?? (production ? 60 : 0),
      /** Everything under /sessions, and /auth/me. */
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
      maxSessionsPerUser: e.MAX_SESSIONS_PER_USER,
      livenessSeconds: e.LIVENESS_SECONDS,
      reconnectSeconds: e.RECONNECT_SECONDS,
      reconcileSeconds: e.RECONCILE_SECONDS,
      /** Days that an ended session is kept with its events. */
      eventRetentionDays: e.EVENT_RETENTION_DAYS,
      maxSessionMinutes: e.MAX_SESSION_MINUTES,
      wrapUpSeconds: e.WRAP_UP_SECONDS,
      logLevel: e.LOG_LEVEL,
    },
    secrets: { livekit, webhook } satisfies Secrets,
    warnings,
  }
}

type Env = z.infer<typeof Environment>

function livekitPair(e: Env, production: boolean, problems: string[], warnings: string[]): KeyPair {
  const { LIVEKIT_API_KEY: key, LIVEKIT_API_SECRET: secret } = e
  if (Boolean(key) !== Boolean(secret)) {
    problems.push('LIVEKIT_API_KEY and LIVEKIT_API_SECRET: set both or neither')
  }
  if (!production) {
    if (!secret)
      warnings.push("LiveKit's public development key pair (devkey/secret) is in use: anyone can mint tokens.")
    return { key: key ?? DEV_KEY.key, secret: secret ?? DEV_KEY.secret }
  }
  if (!key && !secret) problems.push('LIVEKIT_API_KEY, LIVEKIT_API_SECRET: required in production')
  if (key === DEV_KEY.key) problems.push('LIVEKIT_API_KEY: the development key is refused in production')
  if (secret) checkSecret('LIVEKIT_API_SECRET', secret, problems)
  return { key: key ?? '', secret: secret ?? '' }
}

function webhookPair(e: Env, livekit: KeyPair, production: boolean, problems: string[]): KeyPair {
  const { LIVEKIT_WEBHOOK_API_KEY: key, LIVEKIT_WEBHOOK_API_SECRET: secret } = e
  if (Boolean(key) !== Boolean(secret)) {
    problems.push('LIVEKIT_WEBHOOK_API_KEY and LIVEKIT_WEBHOOK_API_SECRET: set both or neither')
  }
  if (!key || !secret) return livekit
  if (production) checkSecret('LIVEKIT_WEBHOOK_API_SECRET', secret, problems)
  return { key, secret }
}

/** RFC 7518 §3.2: an HS256 key of fewer than 256 bits is refused; LiveKit itself asks for 32 characters. */
function checkSecret(name: string, secret: string, problems: string[]): void {
  if (secret.length < 32) problems.push(`${name}: must be at least 32 characters in production`)
}

/** Exact origins, or `'localhost'` for any origin on this machine (development). */
function corsOrigins(value: string | undefined, production: boolean): readonly string[] | 'localhost' {
  if (value === undefined) return production ? [] : 'localhost'
  return value.split(',').flatMap((origin) => origin.trim().replace(/\/+$/, '') || [])
}
