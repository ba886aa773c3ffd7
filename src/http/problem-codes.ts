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
  /** Logged as an error: an operator has to look at it. LiveKit's silence, for one, passes by itself. */
  needsAttention?: true
}

/** Every way a request can be refused. The code is the API: clients switch on it, never on the words of `detail`. */
const PROBLEMS = {
  // the request itself
  malformed_json: { status: 400, means: 'The body is not JSON.', todo: 'Send valid JSON.' },
  invalid_request: {
    status: 400,
    means: 'The Authorization header is not one bearer token.',
    todo: 'Send exactly one header `Authorization: Bearer <token>`.',
  },
  unsupported_media_type: {
    status: 415,
    means: 'The body has another content type.',
    todo: 'Send `Content-Type: application/json`.',
  },
  body_too_large: { status: 413, means: 'The body is too long.', todo: 'Send less.' },
  validation_failed: {
    status: 422,
    means: 'A field is missing or wrong.',
    todo: '`errors` names each field and what is wrong with it.',
  },
  not_found: { status: 404, means: 'There is no such path.', todo: 'Check the path.', where: 'anywhere' },
  method_not_allowed: {
    status: 405,
    means: 'The path takes other methods.',
    todo: 'Use one that the `Allow` header names.',
    where: 'anywhere',
  },
  rate_limited: {
    status: 429,
    means: 'Too many requests from this address, for this account, or of this user or agent.',
    todo: 'Wait for `Retry-After`; `RateLimit` says which limit it is and what is left.',
    retryAfter: true,
  },
  // who is asking
  missing_token: {
    status: 401,
    means: 'There is no access token.',
    todo: 'Sign in, then send `Authorization: Bearer <token>`.',
    challenge: 'Bearer',
  },
  invalid_token: {
    status: 401,
    means: 'The token has expired, was not issued by this service, or is of another kind.',
    todo: 'A user refreshes, an agent asks for a new one. `npm run token -- inspect -` says what is wrong with it.',
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
    todo: 'Stop, or `npm run agent -- enable <name>`.',
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
  already_registered: { status: 409, means: 'This user is no guest any more.', todo: 'Sign in instead.' },
  guests_disabled: { status: 403, means: 'This service has no guests.', todo: 'Register or sign in.' },
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
    means: 'Metadata and attributes together are too long.',
    todo: 'Send at most 4096 bytes.',
  },
  room_config_forbidden: {
    status: 403,
    means: 'The server decides this field of `room_config`.',
    todo: 'Leave it out.',
  },
  agent_not_registered: {
    status: 422,
    means: 'There is no agent account of that name.',
    todo: '`npm run agent -- create <name>`',
  },
  room_required: { status: 422, means: 'An agent has to name the room that it joins.', todo: 'Send `room`.' },
  room_forbidden: {
    status: 403,
    means: 'The room belongs to another user, or LiveKit has it from another system.',
    todo: 'Choose another name, or none.',
  },
  room_not_found: {
    status: 404,
    means: 'No session is under way in that room.',
    todo: 'Join after the user has a session there.',
  },
  too_many_sessions: {
    status: 409,
    means: 'The user has too many sessions under way.',
    todo: 'End one: `DELETE /sessions/{id}`.',
  },
  // sessions and callbacks
  session_not_found: {
    status: 404,
    means: 'There is no such session of this user.',
    todo: 'Leave `session_id` out for a new one.',
  },
  too_many_streams: {
    status: 429,
    means: 'Too many event streams are open.',
    todo: 'Close one, or wait for `Retry-After`.',
    retryAfter: true,
  },
  session_ended: {
    status: 409,
    means: 'The session has ended, for good.',
    todo: 'Agents stop; a client starts a new session.',
  },
  session_mismatch: {
    status: 403,
    means: 'The session is not this user’s, or unknown.',
    todo: 'A mistake: do not repeat it.',
  },
  session_not_live: {
    status: 409,
    means: 'The user is not in the room now.',
    todo: 'It may be too early: repeat after `Retry-After`.',
    retryAfter: true,
  },
  liveness_unknown: {
    status: 503,
    means: 'LiveKit could not say whether the user is in the room.',
    todo: 'Repeat after `Retry-After`; `/health` says whether LiveKit answers.',
    retryAfter: true,
  },
  invalid_idempotency_key: {
    status: 400,
    means: 'The Idempotency-Key has an unusable form.',
    todo: 'Send 1 to 255 visible ASCII characters.',
  },
  idempotency_key_reused: {
    status: 422,
    means: 'The Idempotency-Key was used for another body.',
    todo: 'One key per call, kept over its retries.',
  },
  // what we depend on
  livekit_unavailable: {
    status: 503,
    means: 'LiveKit did not answer.',
    todo: 'Repeat after `Retry-After`.',
    retryAfter: true,
  },
  store_unavailable: {
    status: 503,
    means: 'The database cannot take this now.',
    todo: 'Repeat after `Retry-After`.',
    retryAfter: true,
    needsAttention: true,
  },
  busy: { status: 503, means: 'Too much at once.', todo: 'Repeat after `Retry-After`.', retryAfter: true },
  internal_error: {
    status: 500,
    means: 'A mistake in the service.',
    todo: 'The request id finds it in the log.',
    needsAttention: true,
  },
} as const satisfies Record<string, ProblemKind>

export type ErrorCode = keyof typeof PROBLEMS
export type ProblemStatus<C extends ErrorCode = ErrorCode> = (typeof PROBLEMS)[C]['status']

export const ERROR_CODES = Object.keys(PROBLEMS) as [ErrorCode, ...ErrorCode[]]

/** All that the table says of a code. */
export const problemKind = <C extends ErrorCode>(code: C): ProblemKind & { status: ProblemStatus<C> } => PROBLEMS[code]
