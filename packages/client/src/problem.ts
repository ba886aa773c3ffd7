import type { ErrorCode, FieldError, TokenErrorCode } from './wire.ts'

/** Every way a call can fail: the service's codes, those of `/agent/token` (RFC 6749 §5.2), and the client's own. */
export type ProblemCode =
  | ErrorCode
  | TokenErrorCode
  /** No user is signed in: the call was not sent. */
  | 'not_signed_in'
  /** The service did not answer; the call may have taken effect all the same. */
  | 'unreachable'
  /** The answer did not come from the service, such as a proxy's error page. */
  | 'unexpected_answer'
  /** Your own route refused without a code: see `status` and `detail`. */
  | 'refused'

interface ProblemInit {
  status?: number
  errors?: FieldError[]
  requestId?: string
  retryAfterSeconds?: number | undefined
  cause?: unknown
}

/** The only error of both clients, except that aborted calls reject with their signal's reason. */
export class ProblemError extends Error {
  /** Switch on it; the words of `detail` may change. */
  readonly code: ProblemCode
  /** HTTP status; 0 where there was no answer. */
  readonly status: number
  readonly detail: string
  /** The offending fields of the request. */
  readonly errors: FieldError[]
  /** Identifies the request in the service's log. */
  readonly requestId: string | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(code: ProblemCode, detail: string, init: ProblemInit = {}) {
    super(`${code}: ${detail}`, init.cause === undefined ? undefined : { cause: init.cause })
    this.name = 'ProblemError'
    this.code = code
    this.detail = detail
    this.status = init.status ?? 0
    this.errors = init.errors ?? []
    this.requestId = init.requestId
    this.retryAfterSeconds = init.retryAfterSeconds
  }
}

export const notSignedIn = () => new ProblemError('not_signed_in', 'No user is signed in.')
export const unreachable = (cause: unknown) => new ProblemError('unreachable', 'The service did not answer.', { cause })

/** What a refusal says: problem+json, RFC 6749's error object, or neither. */
export async function problemOf(response: Response): Promise<ProblemError> {
  const { status, headers } = response
  const body = objectIn(await response.text().catch(() => ''))
  const requestId = text(body.requestId) ?? headers.get('X-Request-Id') ?? undefined
  const init = { status, retryAfterSeconds: retryAfter(headers), ...(requestId === undefined ? {} : { requestId }) }
  const isProblem = headers.get('Content-Type')?.startsWith('application/problem+json')
  const code = text(body.code) ?? text(body.error) ?? (isProblem ? 'refused' : undefined)
  if (code === undefined) {
    return new ProblemError('unexpected_answer', `The answer (${status}) did not come from the service.`, init)
  }
  const detail = text(body.detail) ?? text(body.error_description) ?? text(body.title) ?? ''
  const errors = Array.isArray(body.errors) ? { errors: body.errors } : {}
  // A newer service may send codes that this client does not know; they are passed on.
  return new ProblemError(code as ProblemCode, detail, { ...init, ...errors })
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

function objectIn(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {}
  }
}

/** Seconds or an HTTP date (RFC 9110 §10.2.3). */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('Retry-After')
  if (value === null) return undefined
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined
}
