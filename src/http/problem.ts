import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { Logger } from 'pino'
import { AppError, type ErrorCode } from '../errors.ts'
import { asUnreadableBody, ownRefusal } from './own-refusal.ts'
import { PROBLEM_HELP } from './problem-help.ts'
import type { AppEnv } from './router.ts'

const STATUS = {
  malformed_json: 400,
  invalid_request: 400,
  unsupported_media_type: 415,
  body_too_large: 413,
  validation_failed: 422,
  not_found: 404,
  method_not_allowed: 405,
  rate_limited: 429,
  missing_token: 401,
  invalid_token: 401,
  insufficient_scope: 403,
  agent_disabled: 403,
  invalid_credentials: 401,
  invalid_refresh_token: 401,
  email_taken: 409,
  already_registered: 409,
  guests_disabled: 403,
  identity_forbidden: 403,
  attribute_forbidden: 403,
  metadata_invalid: 422,
  metadata_forbidden: 403,
  metadata_too_large: 422,
  room_config_forbidden: 403,
  agent_not_registered: 422,
  room_required: 422,
  room_forbidden: 403,
  room_not_found: 404,
  too_many_sessions: 409,
  session_not_found: 404,
  too_many_streams: 429,
  session_ended: 409,
  session_mismatch: 403,
  session_not_live: 409,
  liveness_unknown: 503,
  invalid_idempotency_key: 400,
  idempotency_key_reused: 422,
  livekit_unavailable: 503,
  store_unavailable: 503,
  busy: 503,
  internal_error: 500,
} as const satisfies Record<ErrorCode, ContentfulStatusCode>

export type ProblemStatus = (typeof STATUS)[ErrorCode]

/** RFC 9457 problem details, with our stable `code` and the request's id. */
export const Problem = z
  .object({
    type: z.string().describe('`urn:behalf:problem:` and the code.'),
    title: z.string().describe('The code in words.'),
    status: z.number().int().describe('The HTTP status.'),
    code: z.enum(Object.keys(STATUS) as [ErrorCode, ...ErrorCode[]]).describe('Stable: switch on it.'),
    detail: z.string().describe('What is wrong, in words for people.'),
    instance: z.string().describe('Path of the request.'),
    requestId: z.string().describe('Finds the request in the log.'),
    errors: z
      .array(
        z.object({
          field: z.string().describe('Its path, or `(body)`.'),
          message: z.string().describe('What is wrong with it.'),
        }),
      )
      .optional()
      .describe('The offending fields, 20 at most.'),
  })
  .openapi('Problem')

/** The status of every code; what a code means is in problem-help.ts. */
export const statusOf = (code: ErrorCode): ProblemStatus => STATUS[code]

type CodeOf<S extends ProblemStatus, C extends ErrorCode> = { [K in C]: (typeof STATUS)[K] extends S ? K : never }[C]
type ProblemOf<C extends ErrorCode> = z.ZodType<z.infer<typeof Problem> & { code: C }>
type ProblemResponses<C extends ErrorCode> = {
  [S in (typeof STATUS)[C]]: {
    description: string
    content: { 'application/problem+json': { schema: ProblemOf<CodeOf<S, C>> } }
  }
}

/** The `responses` entries of a route for the codes it can answer, grouped by status; any route can fail with a bare 500. */
export function problems<C extends ErrorCode = never>(...codes: C[]): ProblemResponses<C | 'internal_error'> {
  const byStatus = new Map<ProblemStatus, ErrorCode[]>()
  for (const code of new Set<ErrorCode>([...codes, 'internal_error'])) {
    byStatus.set(STATUS[code], [...(byStatus.get(STATUS[code]) ?? []), code])
  }
  const entries = [...byStatus].map(([status, list]) => [status, problemResponse(status, list)])
  return Object.fromEntries(entries) as ProblemResponses<C | 'internal_error'>
}

function problemResponse(status: ProblemStatus, codes: ErrorCode[]) {
  const schema = Problem.extend({ status: z.literal(status), code: z.enum(codes) })
  const lines = codes.map((code) => `- \`${code}\`: ${PROBLEM_HELP[code].means} ${PROBLEM_HELP[code].todo}`)
  const headers = Object.fromEntries(
    Object.entries(SENT_WITH)
      .filter(([, senders]) => codes.some((code) => senders.includes(code)))
      .map(([name]) => [name, { $ref: `#/components/headers/${name}` }]),
  )
  return { description: lines.join('\n'), headers, content: { 'application/problem+json': { schema } } }
}

/** Which codes come with a header; `describeApi` describes the headers. */
const SENT_WITH: Record<string, ErrorCode[]> = {
  'WWW-Authenticate': [
    'missing_token',
    'invalid_token',
    'insufficient_scope',
    'invalid_credentials',
    'invalid_refresh_token',
  ],
  'Retry-After': [
    'rate_limited',
    'too_many_streams',
    'session_not_live',
    'liveness_unknown',
    'livekit_unavailable',
    'store_unavailable',
    'busy',
  ],
}

/** What somebody has to look at; LiveKit's silence passes, and without a cause the request's own line says it all. */
const OURS_TO_MEND: ErrorCode[] = ['internal_error', 'store_unavailable']

/**
 * Renders any error as problem+json, or by the response that a team's own route gave it. Unknown errors become a bare 500:
 * their message may hold anything.
 */
export function renderProblem(error: unknown, c: Context<AppEnv>, log: Logger): Response {
  const known = asKnown(error) ?? ownRefusal(error, c) ?? internalError(error)
  if (known instanceof Response) return known
  const status = STATUS[known.code]
  if (status >= 500 && known.cause !== undefined) {
    const level = OURS_TO_MEND.includes(known.code) ? 'error' : 'warn'
    log[level]({ requestId: c.var.requestId, code: known.code, err: known.cause }, known.message)
  }
  c.set('problemCode', known.code)
  const { errors, retryAfterSeconds } = known.details
  const headers: Record<string, string> = {
    'Content-Type': 'application/problem+json',
    'Cache-Control': 'no-store',
  }
  if (retryAfterSeconds !== undefined) headers['Retry-After'] = String(retryAfterSeconds)
  const challenge = bearerChallenge(known)
  if (challenge) headers['WWW-Authenticate'] = challenge
  const body: z.infer<typeof Problem> = {
    type: `urn:behalf:problem:${known.code}`,
    title: known.code.replaceAll('_', ' '),
    status,
    code: known.code,
    detail: known.message,
    instance: c.req.path,
    requestId: c.var.requestId,
    ...(errors ? { errors } : {}),
  }
  return c.body(JSON.stringify(body), status, headers)
}

/** RFC 6750 §3: no credentials, no error code; a bad one is named. RFC 9110 §15.5.2: no 401 without a challenge. */
function bearerChallenge({ code, details }: AppError): string | undefined {
  switch (code) {
    case 'missing_token':
    case 'invalid_credentials':
    case 'invalid_refresh_token':
      return 'Bearer'
    case 'invalid_token':
      return 'Bearer error="invalid_token"'
    case 'insufficient_scope':
      return `Bearer error="insufficient_scope"${details.scope ? `, scope="${details.scope}"` : ''}`
    default:
      return undefined
  }
}

function asKnown(error: unknown): AppError | undefined {
  if (error instanceof AppError) return error
  if (isUnreadable(error)) return new AppError('malformed_json', 'The body cannot be read.')
  return asUnreadableBody(error)
}

const internalError = (cause: unknown) =>
  new AppError('internal_error', 'Something went wrong on our side. The request id finds it in the log.', { cause })

/** What Node throws for a client that went away within its body, or named credentials in its request line: no mistake of ours. */
const isUnreadable = (error: unknown): boolean =>
  error instanceof Error &&
  (('code' in error && error.code === 'ECONNRESET' && error.message === 'aborted') ||
    error.message.startsWith('Request cannot be constructed from a URL that includes credentials'))
