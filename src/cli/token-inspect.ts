import { compactVerify, decodeJwt, decodeProtectedHeader, type JWTPayload, type ProtectedHeaderParameters } from 'jose'
import { authenticateAgent } from '../auth/guards.ts'
import { ALG, type SigningKeys } from '../auth/keys.ts'
import { createAccessTokens } from '../auth/tokens.ts'
import type { Clock } from '../clock.ts'
import type { Secrets } from '../config.ts'
import { AppError } from '../errors.ts'
import type { AgentStore } from '../store/agents.ts'
import type { UserStore } from '../store/users.ts'

interface InspectDeps {
  /** The service's keys, agents and users, or a sentence that says why there are none. */
  store: { keys: SigningKeys; agents: AgentStore; users: UserStore } | string
  publicUrl: string
  secrets: Secrets
  clock: Clock
}

const KINDS = {
  user_access: 'A user’s access token for this API.',
  agent_access: 'An agent’s access token for the /agent routes of this API.',
  livekit_join: 'A LiveKit join token, with which a client connects to a room.',
  livekit_webhook: 'The signature of one LiveKit webhook.',
  unknown: 'A JWT that this service neither issues nor accepts.',
  no_jwt: 'This is not a JWT.',
}

type Kind = keyof typeof KINDS
type Decoded = ReturnType<typeof decode>
interface Verdict {
  signature: 'ours' | 'foreign' | 'unknown'
  /** Why it is not valid here. */
  problems: string[]
}

/** The result of an inspection. It never contains the token itself. */
export type Report = Awaited<ReturnType<typeof inspectToken>>

/** Tells what a token is, who it is for, what it allows, and whether it is valid here. */
export async function inspectToken(token: string, deps: InspectDeps) {
  const decoded = decode(token)
  const { kind, header, claims } = decoded
  const now = deps.clock.now()
  const verdict = await verdictOf(token, decoded, deps)
  const problems = [...verdict.problems, ...(kind === 'no_jwt' ? [] : timeProblems(claims, now))]
  return {
    kind,
    what: KINDS[kind],
    valid: problems.length === 0 && verdict.signature === 'ours',
    signature: verdict.signature,
    expired: isExpired(claims, now),
    expiresAt: isoOf(claims.exp),
    for: forWhom(kind, claims),
    allows: allowedBy(kind, claims),
    problems,
    header,
    claims,
  }
}

function decode(token: string): { kind: Kind; header: ProtectedHeaderParameters; claims: JWTPayload } {
  try {
    const [header, claims] = [decodeProtectedHeader(token), decodeJwt(token)]
    return { kind: kindOf(header, claims), header, claims }
  } catch {
    return { kind: 'no_jwt', header: {}, claims: {} }
  }
}

/** The kind that a token claims to be; the signature is not checked yet. */
function kindOf({ typ }: ProtectedHeaderParameters, claims: JWTPayload): Kind {
  if (typ === 'at+jwt') return 'scope' in claims || 'generation' in claims ? 'agent_access' : 'user_access'
  if (typeof claims.sha256 === 'string') return 'livekit_webhook'
  return objectOf(claims.video).roomJoin === true ? 'livekit_join' : 'unknown'
}

async function verdictOf(token: string, decoded: Decoded, deps: InspectDeps): Promise<Verdict> {
  const { kind } = decoded
  if (kind === 'user_access' || kind === 'agent_access') return accessTokenVerdict(token, decoded, deps)
  if (kind === 'livekit_join' || kind === 'livekit_webhook') return livekitVerdict(token, decoded, deps.secrets)
  if (kind === 'unknown') return { signature: 'foreign', problems: ['This service does not accept such tokens.'] }
  return {
    signature: 'unknown',
    problems: ['It does not decode as a signed JWT. Refresh tokens and agent secrets are not JWTs.'],
  }
}

/** Whether one of the service's keys signed it, and whether the service accepts it. */
async function accessTokenVerdict(
  token: string,
  { kind, header, claims }: Decoded,
  deps: InspectDeps,
): Promise<Verdict> {
  const { store, publicUrl, clock } = deps
  if (typeof store === 'string') return { signature: 'unknown', problems: [store] }
  // Time 0 includes retired keys.
  const key = header.kid === undefined ? undefined : store.keys.publicKey(header.kid, 0)
  if (!key || !(await isSignedBy(token, key, ALG))) {
    return { signature: 'foreign', problems: ['None of this service’s keys signed it.'] }
  }
  const audience = kind === 'agent_access' ? `${publicUrl}/agent` : publicUrl
  const problems = [
    ...(claims.iss === publicUrl ? [] : [`Its issuer is ${claims.iss}; PUBLIC_URL is ${publicUrl}.`]),
    ...(claims.aud === audience ? [] : [`Its audience is ${claims.aud}, not ${audience}.`]),
  ]
  if (problems.length > 0 || isExpired(claims, clock.now())) return { signature: 'ours', problems }
  const tokens = createAccessTokens({ ...store, publicUrl, clock })
  try {
    // Ends with the service's own check. Any scope will do, since scopes are checked last.
    if (kind === 'agent_access') await authenticateAgent({ set() {} }, tokens, store.agents, token, 'progress:write')
    else await tokens.verifyUserToken(token)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    if (error.code !== 'insufficient_scope') problems.push(error.message)
  }
  return { signature: 'ours', problems }
}

/** Whether a configured LiveKit key pair signed it: the webhook pair for webhooks, the main pair for join tokens. */
async function livekitVerdict(token: string, { kind, claims }: Decoded, secrets: Secrets): Promise<Verdict> {
  const { key, secret } = kind === 'livekit_webhook' ? secrets.webhook : secrets.livekit
  const isOurKey = claims.iss === key
  if (isOurKey && (await isSignedBy(token, Buffer.from(secret), 'HS256'))) return { signature: 'ours', problems: [] }
  const hasOwnPair = kind === 'livekit_webhook' && secrets.webhook !== secrets.livekit
  const name = hasOwnPair ? 'LIVEKIT_WEBHOOK_API' : 'LIVEKIT_API'
  const problem = isOurKey
    ? `It names the key ${key} but was not signed with ${name}_SECRET.`
    : `It names the key ${claims.iss ?? '(none)'}; ${name}_KEY is ${key}.`
  return { signature: 'foreign', problems: [problem] }
}

const isSignedBy = (token: string, key: Parameters<typeof compactVerify>[1], alg: string): Promise<boolean> =>
  compactVerify(token, key, { algorithms: [alg] }).then(
    () => true,
    () => false,
  )

const isExpired = ({ exp }: JWTPayload, now: number) => exp !== undefined && exp * 1000 <= now

function timeProblems(claims: JWTPayload, now: number): string[] {
  const { exp, nbf } = claims
  if (exp === undefined) return ['It has no expiry.']
  if (isExpired(claims, now)) return [`It expired at ${isoOf(exp)}.`]
  return nbf !== undefined && nbf * 1000 > now ? [`It is not valid before ${isoOf(nbf)}.`] : []
}

/** ISO 8601; null if it is not a valid time. */
function isoOf(seconds: unknown): string | null {
  const at = new Date(Number(seconds) * 1000)
  return typeof seconds === 'number' && !Number.isNaN(at.getTime()) ? at.toISOString() : null
}

function forWhom(kind: Kind, { sub, name, attributes }: JWTPayload): string[] {
  const { userId, sessionId } = objectOf(attributes)
  const subject = kind === 'user_access' ? 'user' : kind === 'agent_access' ? 'agent' : 'identity'
  const facts = [
    [subject, sub],
    ['named', name],
    ['user', userId],
    ['session', sessionId],
  ] as const
  return facts.flatMap(([what, value]) => (value === undefined ? [] : [`${what} ${value}`]))
}

function allowedBy(kind: Kind, claims: JWTPayload): string[] {
  if (kind === 'user_access') return ['everything that this user may do']
  if (kind === 'livekit_join') return joins(objectOf(claims.video), objectOf(claims.roomConfig))
  return kind === 'agent_access' ? String(claims.scope ?? '').split(' ') : []
}

function joins({ roomJoin, room, ...video }: Record<string, unknown>, { agents }: Record<string, unknown>): string[] {
  const granted = Object.keys(video).filter((grant) => video[grant] === true)
  const called = (Array.isArray(agents) ? agents : []).map((agent) => objectOf(agent).agentName)
  return [
    `joining ${room === undefined ? 'any room' : `only the room ${room}`}`,
    ...granted.map((grant) => GRANT_WORDS[grant] ?? `${grant} (never granted by this service)`),
    ...called.map((name) => `dispatching the agent ${name}, if this join creates the room`),
  ]
}

const GRANT_WORDS: Readonly<Record<string, string>> = {
  canPublish: 'publishing audio and video',
  canSubscribe: 'receiving audio and video',
  canPublishData: 'sending data',
}

/** A claim's members; none if it is not an object. */
const objectOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
