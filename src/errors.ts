import type { ErrorCode } from './http/problem-codes.ts'

/** A reason for the operator, complete without a stack: the setting, its value and what to do. */
export class OperatorError extends Error {}

interface FieldError {
  field: string
  message: string
}

interface ErrorDetails {
  /** One entry per offending field of the request. */
  errors?: FieldError[]
  /** When a retry makes sense, in whole seconds. */
  retryAfterSeconds?: number
  /** The scope that the caller's token lacks. */
  scope?: string
  cause?: unknown
}

/** A refusal in domain terms; `http/problem.ts` maps it to a status. Callers see `message`: no tokens, no secrets. */
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
