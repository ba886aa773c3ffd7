import type { JWTPayload, ProtectedHeaderParameters } from 'jose'
import { isScope, type Scope } from '../agents/agent.ts'
import type { TokenKind } from './report.ts'

/** Which kind a token claims to be; its signature is another question. */
export function kindOf({ typ }: ProtectedHeaderParameters, claims: JWTPayload): TokenKind {
  if (typ === 'at+jwt') return 'scope' in claims || 'generation' in claims ? 'agent_access' : 'user_access'
  if (typeof claims.sha256 === 'string') return 'livekit_webhook'
  const video = objectOf(claims.video)
  if (video.roomJoin === true) return 'livekit_join'
  return 'video' in claims || 'sip' in claims ? 'livekit_api' : 'unknown'
}

/** One sentence per kind. */
export const WHAT: Readonly<Record<TokenKind, string>> = {
  user_access: 'A user’s access token for this API.',
  agent_access: 'An agent’s access token for the /agent routes of this API.',
  livekit_join: 'A LiveKit join token: with it a client connects to a room.',
  livekit_webhook: 'The signature of one LiveKit webhook; it is no good for anything else.',
  livekit_api: 'A LiveKit server API token. This service issues none.',
  unknown: 'A JWT of no kind that this service issues or takes.',
  no_jwt: 'This is no JWT.',
}

/** Whom the token is for. */
export function forWhom(kind: TokenKind, claims: JWTPayload): string[] {
  const { userId, sessionId } = objectOf(claims.attributes)
  const subject = { user_access: 'user', agent_access: 'agent' }[kind as string] ?? 'identity'
  return [
    ...(claims.sub === undefined ? [] : [`${subject} ${claims.sub}`]),
    ...(typeof claims.name === 'string' ? [`named ${claims.name}`] : []),
    ...(claims.kind === 'agent' ? ['as an agent'] : []),
    ...(userId === undefined ? [] : [`user ${userId}`]),
    ...(sessionId === undefined ? [] : [`session ${sessionId}`]),
  ]
}

/** What the token allows, as far as its kind says so. */
export function allowedBy(kind: TokenKind, claims: JWTPayload): string[] {
  switch (kind) {
    case 'user_access':
      return ['everything that this user may do: POST /token, POST /rooms, its own /sessions, GET /auth/me']
    case 'agent_access':
      return String(claims.scope ?? '')
        .split(' ')
        .map((scope) => (isScope(scope) ? `${scope}: ${SCOPE_WORDS[scope]}` : `${scope}: nothing here`))
    case 'livekit_join':
    case 'livekit_api':
      return [...grants(objectOf(claims.video)), ...dispatches(objectOf(claims.roomConfig))]
    case 'livekit_webhook':
      return [`showing that LiveKit sent the body whose SHA-256 is ${claims.sha256} (base64)`]
    default:
      return []
  }
}

const SCOPE_WORDS: Record<Scope, string> = {
  'progress:write': 'POST /agent/progress',
  'context:read': 'GET /agent/context',
  'session:end': 'POST /agent/session/end',
  'rooms:join': 'POST /token, for a room that holds a session',
}

const GRANT_WORDS: Record<string, string> = {
  canPublish: 'publishing audio and video',
  canSubscribe: 'hearing and seeing the others',
  canPublishData: 'sending data',
  canUpdateOwnMetadata: 'changing its own metadata and attributes (ours never do)',
}

function grants({ roomJoin, room, ...video }: Record<string, unknown>): string[] {
  const given = Object.entries(video).filter(([, value]) => value === true)
  return [
    ...(roomJoin === true ? [`joining ${room === undefined ? 'any room' : `the room ${room} and no other`}`] : []),
    ...given.map(([grant]) => GRANT_WORDS[grant] ?? `${grant} (ours never do)`),
  ]
}

function dispatches({ agents }: Record<string, unknown>): string[] {
  const names = (Array.isArray(agents) ? agents : []).map((agent) => objectOf(agent).agentName)
  return names.map((name) => `calling the agent ${name}, if this join creates the room`)
}

/** The members of a claim that should be an object. */
export const objectOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
