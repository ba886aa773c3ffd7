import { STATUS_CODES } from 'node:http'
import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import type { Logger } from 'pino'
import { AppError } from '../errors.ts'
import { ERROR_CODES, type ErrorCode, type ProblemStatus, problemKind } from './problem-codes.ts'
import type { AppEnv } from './router.ts'

/** RFC 9457 problem details, with a stable `code` and the request's id. */
export const Problem = z
  .object({
    type: z.string().describe('`urn:behalf:problem:` and the code.'),
    title: z.string().describe('The code in words.'),
    status: z.number().int().describe('The HTTP status.'),
    code: z.enum(ERROR_CODES).describe('Stable: switch on it.'),
    detail: z.string().describe('What is wrong, for people to read.'),
    instance: z.string().describe('Path of the request.'),
    requestId: z.string().describe('The id of the request’s log lines.'),
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

type CodeOf<S extends ProblemStatus, C extends ErrorCode> = { [K in C]: ProblemStatus<K> extends S ? K : never }[C]
type ProblemOf<C extends ErrorCode> = z.ZodType<z.infer<typeof Problem> & { code: C }>
type ProblemResponses<C extends ErrorCode> = {
  [S in ProblemStatus<C>]: {
    description: string
    content: { 'application/problem+json': { schema: ProblemOf<CodeOf<S, C>> } }
  }
}

/**
 * A route's `responses` entries for the codes it can answer, grouped by status; any route can fail with a bare 500.
 * The order is always the table's, so routes may combine their guards' refusals in any order.
 */
export function problems<C extends ErrorCode = never>(...codes: C[]): ProblemResponses<C | 'internal_error'> {
  const byStatus = new Map<ProblemStatus, ErrorCode[]>()
  const answered = new Set<ErrorCode>([...codes, 'internal_error'])
  for (const code of ERROR_CODES.filter((code) => answered.has(code))) {
    const { status } = problemKind(code)
    byStatus.set(status, [...(byStatus.get(status) ?? []), code])
  }
  const entries = [...byStatus].map(([status, list]) => [status, problemResponse(status, list)])
  return Object.fromEntries(entries) as ProblemResponses<C | 'internal_error'>
}

function problemResponse(status: ProblemStatus, codes: ErrorCode[]) {
  const kinds = codes.map((code) => ({ code, ...problemKind(code) }))
  const schema = Problem.extend({ status: z.literal(status), code: z.enum(codes) })
  const headers = {
    ...(kinds.some(({ challenge }) => challenge) ? headerReference('WWW-Authenticate') : {}),
    ...(kinds.some(({ retryAfter }) => retryAfter) ? headerReference('Retry-After') : {}),
  }
  const description = kinds.map(({ code, means, todo }) => `- \`${code}\`: ${means} ${todo}`).join('\n')
  return { description, headers, content: { 'application/problem+json': { schema } } }
}

/** `describeApi` describes the headers. */
const headerReference = (name: string) => ({ [name]: { $ref: `#/components/headers/${name}` } })

/**
 * Renders any error as problem+json, or as the response that a team's own route attached. Unknown errors become a bare
 * 500: their message may contain anything.
 */
export function renderProblem(error: unknown, c: Context<AppEnv>, log: Logger): Response {
  const known = asKnown(error) ?? answerToHttpException(error, c) ?? internalError(error)
  if (known instanceof Response) return known
  const { status, challenge, needsAttention } = problemKind(known.code)
  // Without a cause, the request's own log line is enough.
  if (status >= 500 && known.cause !== undefined) {
    const level = needsAttention ? 'error' : 'warn'
    log[level]({ requestId: c.var.requestId, ...c.var.trace, code: known.code, err: known.cause }, known.message)
  }
  c.set('problemCode', known.code)
  const { errors, retryAfterSeconds, scope } = known.details
  const headers: Record<string, string> = { 'Content-Type': 'application/problem+json' }
  if (retryAfterSeconds !== undefined) headers['Retry-After'] = String(retryAfterSeconds)
  if (challenge) headers['WWW-Authenticate'] = scope ? `${challenge}, scope="${scope}"` : challenge
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

function asKnown(error: unknown): AppError | undefined {
  if (error instanceof AppError) return error
  if (isUnreadable(error)) return new AppError('malformed_json', 'The body cannot be read.')
  return error instanceof HTTPException ? UNREADABLE_BODY[`${error.status} ${error.message}`]?.() : undefined
}

const internalError = (cause: unknown) =>
  new AppError(
    'internal_error',
    'Something went wrong in the service. The log has the details under this request id.',
    { cause },
  )

/** Client errors that Node throws: the client disconnected mid-body, or put credentials in its request line. */
const isUnreadable = (error: unknown): boolean =>
  error instanceof Error &&
  (('code' in error && error.code === 'ECONNRESET' && error.message === 'aborted') ||
    error.message.startsWith('Request cannot be constructed from a URL that includes credentials'))

/** What Hono and zod-openapi throw for an unreadable body. Only status and message identify it. */
const UNREADABLE_BODY: Readonly<Record<string, () => AppError>> = {
  '400 Malformed JSON in request body': () => new AppError('malformed_json', 'The body is not valid JSON.'),
  '415 Unsupported Media Type': () => new AppError('unsupported_media_type', 'This content type is not supported.'),
}

/**
 * The answer to an HTTPException, by which a team's own routes refuse: its response if it has one, otherwise a problem.
 * Returns undefined for 5xx: those are not refusals.
 */
function answerToHttpException(error: unknown, c: Context<AppEnv>): Response | undefined {
  if (!(error instanceof HTTPException) || error.status >= 500) return undefined
  if (error.res) return responseOf(error, c)
  return error.status >= 400 ? problemOf(error, c) : undefined
}

function responseOf(error: HTTPException, c: Context<AppEnv>): Response | undefined {
  try {
    const response = error.getResponse()
    return c.newResponse(response.body, response)
  } catch {
    // For example, its body was already sent.
    return undefined
  }
}

/** RFC 9457 §4.2.1: `about:blank` adds nothing to the status. No `code`, because the codes are the service's. */
function problemOf({ status, message }: HTTPException, c: Context<AppEnv>): Response {
  const problem = {
    type: 'about:blank',
    title: STATUS_CODES[status] ?? String(status),
    status,
    ...(message === '' ? {} : { detail: message }),
    instance: c.req.path,
    requestId: c.var.requestId,
  }
  return c.body(JSON.stringify(problem), status, {
    'Content-Type': 'application/problem+json',
    // RFC 9110 §15.5.2: no 401 without a challenge.
    ...(status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
  })
}
