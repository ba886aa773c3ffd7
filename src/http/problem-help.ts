import type { ErrorCode } from '../errors.ts'

/** What a problem code means and what to do about it, for people: `/openapi.json` and `/docs` are written from this. */
export interface ProblemHelp {
  means: string
  todo: string
  /** Not of one route: any request may be answered with it. */
  where?: 'anywhere'
}

/** One entry per code; `STATUS` in problem.ts has the status of each. */
export const PROBLEM_HELP: Readonly<Record<ErrorCode, ProblemHelp>> = {
  malformed_json: { means: 'The body is not JSON.', todo: 'Send valid JSON.' },
  invalid_request: {
    means: 'The Authorization header is not one bearer token.',
    todo: 'Send exactly one header `Authorization: Bearer <token>`.',
  },
  unsupported_media_type: {
    means: 'The body has another content type.',
    todo: 'Send `Content-Type: application/json`.',
  },
  body_too_large: { means: 'The body is too long.', todo: 'Send less.' },
  validation_failed: {
    means: 'A field is missing or wrong.',
    todo: '`errors` names each field and what is wrong with it.',
  },
  not_found: { means: 'There is no such path.', todo: 'Check the path.', where: 'anywhere' },
  method_not_allowed: {
    means: 'The path takes other methods.',
    todo: 'Use one that the `Allow` header names.',
    where: 'anywhere',
  },
  rate_limited: {
    means: 'Too many requests from this address, for this account, or of this user or agent.',
    todo: 'Wait for `Retry-After`; `RateLimit` says which limit it is and what is left.',
  },
  missing_token: { means: 'There is no access token.', todo: 'Sign in, then send `Authorization: Bearer <token>`.' },
  invalid_token: {
    means: 'The token has expired, is not ours, or is of another kind.',
    todo: 'A user refreshes, an agent asks for a new one. `npm run token -- inspect -` says what is wrong with it.',
  },
  insufficient_scope: {
    means: 'The agent lacks the scope.',
    todo: 'Give the account the scope that the answer names.',
  },
  agent_disabled: { means: 'The agent account is disabled.', todo: 'Stop, or `npm run agent -- enable <name>`.' },
  invalid_credentials: { means: 'The e-mail or the password is wrong.', todo: 'Ask the user again.' },
  invalid_refresh_token: {
    means: 'The refresh token is unknown, expired, or was used before.',
    todo: 'Let the user sign in again.',
  },
  email_taken: { means: 'Another account has this e-mail.', todo: 'Sign in instead.' },
  already_registered: { means: 'This user is no guest any more.', todo: 'Sign in instead.' },
  guests_disabled: { means: 'This service has no guests.', todo: 'Register or sign in.' },
  identity_forbidden: { means: 'The identity is set by the server.', todo: 'Leave it out, or send your own id.' },
  attribute_forbidden: {
    means: 'The attributes `userId`, `sessionId` and `lk.*` are set by the server.',
    todo: 'Choose other names.',
  },
  metadata_invalid: { means: 'The metadata is not a JSON object.', todo: 'Send a JSON object, as a string.' },
  metadata_forbidden: {
    means: 'The metadata keys `userId` and `sessionId` are set by the server.',
    todo: 'Choose other names.',
  },
  metadata_too_large: { means: 'Metadata and attributes together are too long.', todo: 'Send at most 4096 bytes.' },
  room_config_forbidden: { means: 'The server decides this field of `room_config`.', todo: 'Leave it out.' },
  agent_not_registered: { means: 'There is no agent account of that name.', todo: '`npm run agent -- create <name>`' },
  room_required: { means: 'An agent has to name the room that it joins.', todo: 'Send `room`.' },
  room_forbidden: { means: 'The room is another user’s, or not ours.', todo: 'Choose another name, or none.' },
  room_not_found: { means: 'No session is under way in that room.', todo: 'Join after the user has a session there.' },
  too_many_sessions: { means: 'The user has too many sessions under way.', todo: 'End one: `DELETE /sessions/{id}`.' },
  too_many_streams: { means: 'Too many event streams are open.', todo: 'Close one, or wait for `Retry-After`.' },
  session_not_found: { means: 'There is no such session of this user.', todo: 'Leave `session_id` out for a new one.' },
  session_ended: { means: 'The session has ended, for good.', todo: 'Agents stop; a client starts a new session.' },
  session_mismatch: { means: 'The session is not this user’s, or unknown.', todo: 'A mistake: do not repeat it.' },
  session_not_live: {
    means: 'The user is not in the room now.',
    todo: 'It may be too early: repeat after `Retry-After`.',
  },
  liveness_unknown: {
    means: 'LiveKit could not say whether the user is in the room.',
    todo: 'Repeat after `Retry-After`; `/health` says whether LiveKit answers.',
  },
  invalid_idempotency_key: {
    means: 'The Idempotency-Key has an unusable form.',
    todo: 'Send 1 to 255 visible ASCII characters.',
  },
  idempotency_key_reused: {
    means: 'The Idempotency-Key was used for another body.',
    todo: 'One key per call, kept over its retries.',
  },
  livekit_unavailable: { means: 'LiveKit did not answer.', todo: 'Repeat after `Retry-After`.' },
  store_unavailable: { means: 'The database cannot take this now.', todo: 'Repeat after `Retry-After`.' },
  busy: { means: 'Too much at once.', todo: 'Repeat after `Retry-After`.' },
  internal_error: { means: 'A mistake of ours.', todo: 'The request id finds it in the log.' },
}
