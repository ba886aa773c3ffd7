// What goes over the wire. `test/client.types.ts` holds every type here to the routes of the server.

/** Who the agent acts for, and in which session; from the job's attributes. */
export interface Pair {
  userId: string
  sessionId: string
}

/** The signed-in user. */
export interface User {
  /** `user_…`, which is the LiveKit identity as well. */
  id: string
  /** Absent for a guest. */
  email?: string | undefined
  name?: string | undefined
}

export interface Me extends User {
  guest: boolean
}

export interface Credentials {
  email: string
  password: string
}

export interface Registration extends Credentials {
  name?: string | undefined
}

export interface PasswordChange {
  current_password: string
  new_password: string
}

export interface GuestDetails {
  name?: string | undefined
}

/** The fields that every token endpoint returns. */
export interface Issued {
  access_token: string
  token_type: 'Bearer'
  /** Seconds. */
  expires_in: number
}

export interface SignedIn extends Issued {
  user: User
  refresh_token: string
}

export interface AgentToken extends Issued {
  /** Space-separated. */
  scope: string
}

/** A request for a join token: LiveKit's own field names, and shorter ones that mean the same. */
export interface JoinRequest {
  room_name?: string | undefined
  participant_identity?: string | undefined
  participant_name?: string | undefined
  /** A JSON object, as text. */
  participant_metadata?: string | undefined
  participant_attributes?: Record<string, string> | undefined
  room_config?: RoomConfig | undefined
  room?: string | undefined
  identity?: string | undefined
  name?: string | undefined
  auto_create_room?: boolean | undefined
  /** One of the user's unfinished sessions, for another token to it. */
  session_id?: string | undefined
}

export interface RoomConfig {
  [field: string]: unknown
  agents?: AgentDispatch[] | undefined
}

export interface AgentDispatch {
  [field: string]: unknown
  agent_name?: string | undefined
  agentName?: string | undefined
  deployment?: string | undefined
  metadata?: string | undefined
}

/** A join token, and the session it belongs to. */
export interface JoinToken {
  server_url: string
  participant_token: string
  room_name: string
  participant_identity: string
  participant_name?: string | undefined
  session_id?: string | undefined
  /** Unix seconds. */
  expires_at: number
  url: string
  token: string
  room: string
  identity: string
}

/** One user in one room, from the first join token to the end. */
export interface Session {
  id: string
  userId: string
  room: string
  status: 'pending' | 'live' | 'disconnected' | 'ended'
  createdAt: string
  endedAt?: string | undefined
  endReason?: 'user' | 'agent' | 'limit' | 'superseded' | 'never_joined' | 'left' | 'signed_out' | undefined
}

export interface SessionQuery {
  limit?: number | undefined
  /** A page's `before`, to get the next page. */
  before?: string | undefined
}

export interface SessionPage {
  sessions: Session[]
  before?: string | undefined
}

/** Something that happened in a session: an agent's progress, `session.status`, or `session.call`. */
export interface SessionEvent {
  /** Counts the events of the session, from 1. */
  seq: number
  type: string
  data: unknown
  /** Absent for the service's own events. */
  agentId?: string | undefined
  createdAt: string
}

/** Why the service closes a stream of events. */
export type CloseReason = 'ended' | 'token_expired' | 'signed_out' | 'slow_reader' | 'shutting_down'

export interface Progress extends Pair {
  type?: string | undefined
  data: Record<string, unknown>
}

export interface StoredProgress {
  sessionId: string
  seq: number
  createdAt: string
}

export interface Context {
  user: Me
  session: Session
  /** This agent's newest job in the session, if its worker connects through the service. */
  assignment?: Assignment | undefined
  events: SessionEvent[]
  cursor: number
}

/** A job that LiveKit gave to a worker; without `endedAt` and `end` while it runs. */
export interface Assignment {
  jobId: string
  workerId: string
  assignedAt: string
  endedAt?: string | undefined
  end?: 'finished' | 'failed' | 'left' | 'replaced' | undefined
}

export interface SessionEnd extends Pair {
  reason?: string | undefined
  result?: Record<string, unknown> | undefined
}

/** An offending field of a request. */
export interface FieldError {
  field: string
  message: string
}

/** The codes of `POST /agent/token` (RFC 6749 §5.2). */
export type TokenErrorCode = 'invalid_request' | 'invalid_client' | 'unsupported_grant_type' | 'invalid_scope'

/** Every other code of the service. */
export type ErrorCode =
  | 'malformed_json'
  | 'invalid_request'
  | 'unsupported_media_type'
  | 'body_too_large'
  | 'validation_failed'
  | 'not_found'
  | 'method_not_allowed'
  | 'upgrade_required'
  | 'rate_limited'
  | 'missing_token'
  | 'invalid_token'
  | 'insufficient_scope'
  | 'agent_disabled'
  | 'agent_secret_outdated'
  | 'invalid_credentials'
  | 'invalid_refresh_token'
  | 'email_taken'
  | 'already_registered'
  | 'guests_disabled'
  | 'identity_forbidden'
  | 'attribute_forbidden'
  | 'metadata_invalid'
  | 'metadata_forbidden'
  | 'metadata_too_large'
  | 'room_config_forbidden'
  | 'agent_not_registered'
  | 'room_required'
  | 'room_forbidden'
  | 'room_not_found'
  | 'too_many_sessions'
  | 'session_not_found'
  | 'too_many_streams'
  | 'session_ended'
  | 'session_mismatch'
  | 'session_full'
  | 'too_many_rooms'
  | 'not_sessions_agent'
  | 'no_assignment'
  | 'session_not_live'
  | 'liveness_unknown'
  | 'user_joined'
  | 'call_in_progress'
  | 'calls_disabled'
  | 'call_failed'
  | 'invalid_idempotency_key'
  | 'idempotency_key_reused'
  | 'livekit_unavailable'
  | 'store_unavailable'
  | 'busy'
  | 'internal_error'
