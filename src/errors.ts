/** Every way a request can be refused. The code is the API: clients switch on it, never on the words of `detail`. */
export type ErrorCode =
  // the request itself
  | 'malformed_json'
  | 'invalid_request'
  | 'unsupported_media_type'
  | 'body_too_large'
  | 'validation_failed'
  | 'not_found'
  | 'method_not_allowed'
  | 'rate_limited'
  // who is asking
  | 'missing_token'
  | 'invalid_token'
  | 'insufficient_scope'
  | 'agent_disabled'
  | 'invalid_credentials'
  | 'invalid_refresh_token'
  | 'email_taken'
  | 'already_registered'
  | 'guests_disabled'
  // what a client may not choose for its join token
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
  // sessions and callbacks
  | 'session_not_found'
  | 'too_many_streams'
  | 'session_ended'
  | 'session_mismatch'
  | 'session_not_live'
  | 'liveness_unknown'
  | 'invalid_idempotency_key'
  | 'idempotency_key_reused'
  // what we depend on
  | 'livekit_unavailable'
  | 'store_unavailable'
  | 'busy'
  | 'internal_error'

export interface FieldError {
  field: string
  message: string
}

export interface ErrorDetails {
  /** One entry per offending field of the request. */
  errors?: FieldError[]
  /** When it makes sense to ask again, in whole seconds. */
  retryAfterSeconds?: number
  /** The scope that the caller's token lacks. */
  scope?: string
  cause?: unknown
}

/** A refusal in domain words; `http/problem.ts` gives it a status. `message` is shown to the caller: no tokens, no secrets. */
export class AppError extends Error {
  readonly code: ErrorCode
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'AppError'
    this.code = code
    this.details = details
  }

  /** A refusal that names one field of the request. */
  static field(code: ErrorCode, field: string, message: string): AppError {
    return new AppError(code, message, { errors: [{ field, message }] })
  }
}
