/** What one code means, for `/openapi.json` and `/docs`, and how it is answered. */
interface ProblemKind {
  status: number
  means: string
  /** What the caller should do about it. */
  todo: string
  /** Any request may be answered with it, whatever its route. */
  where?: 'anywhere'
  /** The value of `WWW-Authenticate`: RFC 9110 §15.5.2, no 401 without one; RFC 6750 §3 has the error names. */
  challenge?: string
  /** Comes with `Retry-After`. */
  retryAfter?: true
  /** Logged as an error, because an operator has to act. A LiveKit outage, for example, passes by itself. */
  needsAttention?: true
}

/** Every way that a request can be refused. Clients switch on the code, never on the words of `detail`. */
const PROBLEMS = {
  // the request itself
  malformed_json: {
    status: 400,
    means: 'The body is not JSON, or could not be stored as it was sent: see RFC 7493.',
    todo: 'Send UTF-8, no name twice in an object, and as strings the numbers that a double cannot hold.',
  },
  invalid_request: {
    status: 400,
    means: 'The Authorization header is not one bearer token.',
    todo: 'Send exactly one header `Authorization: Bearer <token>`.',
  },
  unsupported_media_type: {
    status: 415,
    means: 'The content type is not supported.',
    todo: 'Send `Content-Type: application/json`.',
  },
  body_too_large: { status: 413, means: 'The body is too long.', todo: 'Send a shorter body.' },
  validation_failed: {
    status: 422,
    means: 'A field is missing or wrong.',
    todo: '`errors` names each field and what is wrong with it.',
  },
  not_found: { status: 404, means: 'There is no such path.', todo: 'Check the path.', where: 'anywhere' },
  method_not_allowed: {
    status: 405,
    means: 'The path does not accept this method.',
    todo: 'Use a method from the `Allow` header.',
    where: 'anywhere',
  },
  upgrade_required: {
    status: 426,
    means: 'The path takes only WebSockets.',
    todo: 'Set `LIVEKIT_URL` of a worker to this service, and let its SDK connect.',
  },
  rate_limited: {
    status: 429,
    means: 'Too many requests from this address, user or agent, or for this account.',
    todo: 'Retry after `Retry-After` seconds; `RateLimit` names the limit.',
    retryAfter: true,
  },
  // authentication
  missing_token: {
    status: 401,
    means: 'The request has no access token.',
    todo: 'Sign in, then send `Authorization: Bearer <token>`.',
    challenge: 'Bearer',
  },
  invalid_token: {
    status: 401,
    means: 'The token or its sign-in has ended, this service did not issue it, or it is of another kind.',
    todo: 'Users refresh; agents ask for a new one. `npm run token -- inspect -` shows what is wrong.',
    challenge: 'Bearer error="invalid_token"',
  },
  insufficient_scope: {
    status: 403,
    means: 'The agent lacks the scope.',
    todo: 'Give the account the scope that the answer names.',
    challenge: 'Bearer error="insufficient_scope"',
  },
  agent_disabled: {
    status: 403,
    means: 'The agent account is disabled.',
    todo: 'Stop calling. An operator can run `npm run agent -- enable <name>`.',
  },
  agent_secret_outdated: {
    status: 403,
    means: 'An earlier version issued the agent account’s secret, and workers cannot connect with it.',
    todo: 'Give the account a new secret: `npm run agent -- rekey <name>`.',
  },
  invalid_credentials: {
    status: 401,
    means: 'The e-mail or the password is wrong.',
    todo: 'Ask the user again.',
    challenge: 'Bearer',
  },
  invalid_refresh_token: {
    status: 401,
    means: 'The refresh token is unknown, expired, or was used before.',
    todo: 'Let the user sign in again.',
    challenge: 'Bearer',
  },
  email_taken: { status: 409, means: 'Another account has this e-mail.', todo: 'Sign in instead.' },
  already_registered: { status: 409, means: 'This user is already registered.', todo: 'Sign in instead.' },
  guests_disabled: { status: 403, means: 'Guest sign-in is disabled.', todo: 'Register or sign in.' },
  // what a client may not choose for its join token
  identity_forbidden: {
    status: 403,
    means: 'The identity is set by the server.',
    todo: 'Leave it out, or send your own id.',
  },
  attribute_forbidden: {
    status: 403,
    means: 'The attributes `userId`, `sessionId` and `lk.*` are set by the server.',
    todo: 'Choose other names.',
  },
  metadata_invalid: {
    status: 422,
    means: 'The metadata is not a JSON object.',
    todo: 'Send a JSON object, as a string.',
  },
  metadata_forbidden: {
    status: 403,
    means: 'The metadata keys `userId` and `sessionId` are set by the server.',
    todo: 'Choose other names.',
  },
  metadata_too_large: {
    status: 422,
    means: 'Metadata and attributes together are too long, or make the join token too long for proxies.',
    todo: 'Send at most 4096 bytes, and fewer of characters that JSON escapes.',
  },
  room_config_forbidden: {
    status: 403,
    means: 'The server decides this field of `room_config`.',
    todo: 'Leave it out.',
  },
  agent_not_registered: {
    status: 422,
    means: 'The agent that the request names has no account, a disabled one, or one that clients may not name.',
    todo: '`npm run agent -- create <name>`, `enable`, or `set <name> --summon any`.',
  },
  room_required: { status: 422, means: 'An agent must name the room that it joins.', todo: 'Send `room`.' },
  room_forbidden: {
    status: 403,
    means: 'The room belongs to another user, or to another system that uses this LiveKit.',
    todo: 'Choose another name, or leave it out.',
  },
  room_not_found: {
    status: 404,
    means: 'No session that the agent was dispatched to is under way in that room.',
    todo: 'Join after the user has; to join elsewhere, the account needs the scope `sessions:any`.',
  },
  too_many_rooms: {
    status: 409,
    means: 'The user has claimed as many room names as one user may.',
    todo: 'Use one of them, or no name: a name is free again 30 days after its last session.',
  },
  too_many_sessions: {
    status: 409,
    means: 'The user is in too many sessions.',
    todo: 'End one: `DELETE /sessions/{id}`.',
  },
  // sessions and callbacks
  session_not_found: {
    status: 404,
    means: 'The user has no such session.',
    todo: 'Leave `session_id` out to start a new one.',
  },
  too_many_streams: {
    status: 429,
    means: 'Too many event streams are open.',
    todo: 'Close one, or retry after `Retry-After` seconds.',
    retryAfter: true,
  },
  session_ended: {
    status: 409,
    means: 'The session has ended.',
    todo: 'Agents stop calling; clients start a new session.',
  },
  session_full: {
    status: 409,
    means: 'The session holds as many events, or as many bytes of them, as it may.',
    todo: 'Stop reporting; ending the session still works. `MAX_EVENTS_PER_SESSION` and `MAX_EVENT_MIB_PER_SESSION` say how many.',
  },
  session_mismatch: {
    status: 403,
    means: 'The session is unknown or belongs to another user.',
    todo: 'Do not retry: send the pair from the job’s attributes.',
  },
  not_sessions_agent: {
    status: 403,
    means: 'Another agent was dispatched to the session.',
    todo: 'Let the session’s own agent call, or give the account the scope `sessions:any`.',
  },
  no_assignment: {
    status: 403,
    means: 'LiveKit gave this agent no job for the session through this service, or the job has ended.',
    todo: 'Connect the worker through this service. `REQUIRE_ASSIGNMENT` is on.',
  },
  session_not_live: {
    status: 409,
    means: 'The user is not in the room now.',
    todo: 'Retry after `Retry-After` seconds: the user may still be joining.',
    retryAfter: true,
  },
  liveness_unknown: {
    status: 503,
    means: 'LiveKit could not say whether the user is in the room.',
    todo: 'Retry after `Retry-After` seconds; `/health` shows whether LiveKit answers.',
    retryAfter: true,
  },
  user_joined: {
    status: 409,
    means: 'The user has joined the session without a phone, or is in its room.',
    todo: 'Do not call for this session. To be called, the user opens another one.',
  },
  call_in_progress: {
    status: 409,
    means: 'The user’s phone rings, or the user is on it.',
    todo: 'Retry when the call is over, after `Retry-After` seconds at the earliest.',
    retryAfter: true,
  },
  calls_disabled: {
    status: 403,
    means: 'The service has no SIP trunk to call phones with.',
    todo: 'Set `SIP_TRUNK_ID` to the id of one of LiveKit’s outbound trunks.',
  },
  call_failed: {
    status: 502,
    means: 'LiveKit did not place the call: its SIP service is missing, or refuses the trunk or the number.',
    todo: '`detail` says what to check. A phone that is busy or not answered is not a failure of this kind.',
    needsAttention: true,
  },
  invalid_idempotency_key: {
    status: 400,
    means: 'The Idempotency-Key is malformed.',
    todo: 'Send 1 to 255 visible ASCII characters.',
  },
  idempotency_key_reused: {
    status: 422,
    means: 'The Idempotency-Key was already used with another body.',
    todo: 'Use one key per call, and the same key for its retries.',
  },
  // dependencies
  livekit_unavailable: {
    status: 503,
    means: 'LiveKit cannot be queried now.',
    todo: 'Retry after `Retry-After` seconds; `/health` says why.',
    retryAfter: true,
  },
  store_unavailable: {
    status: 503,
    means: 'The database is unavailable.',
    todo: 'Retry after `Retry-After` seconds.',
    retryAfter: true,
    needsAttention: true,
  },
  busy: {
    status: 503,
    means: 'The service is overloaded or stopping.',
    todo: 'Retry after `Retry-After` seconds.',
    retryAfter: true,
  },
  internal_error: {
    status: 500,
    means: 'A bug in the service.',
    todo: 'Look in the log for the request id.',
    needsAttention: true,
  },
} as const satisfies Record<string, ProblemKind>

export type ErrorCode = keyof typeof PROBLEMS
export type ProblemStatus<C extends ErrorCode = ErrorCode> = (typeof PROBLEMS)[C]['status']

export const ERROR_CODES = Object.keys(PROBLEMS) as [ErrorCode, ...ErrorCode[]]

export const problemKind = <C extends ErrorCode>(code: C): ProblemKind & { status: ProblemStatus<C> } => PROBLEMS[code]
