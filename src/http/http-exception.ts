import { STATUS_CODES } from 'node:http'
import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { AppError } from '../errors.ts'
import type { AppEnv } from './router.ts'

/** What Hono and zod-openapi throw for an unreadable body. Only status and message identify it. */
const UNREADABLE_BODY: Readonly<Record<string, () => AppError>> = {
  '400 Malformed JSON in request body': () => new AppError('malformed_json', 'The body is not valid JSON.'),
  '415 Unsupported Media Type': () => new AppError('unsupported_media_type', 'This content type is not supported.'),
}

/** The framework's refusal of a body, as one of the service's problems. */
export const unreadableBody = (error: unknown): AppError | undefined =>
  error instanceof HTTPException ? UNREADABLE_BODY[`${error.status} ${error.message}`]?.() : undefined

/**
 * The answer to an HTTPException, by which a team's own routes refuse: its response if it has one, otherwise a problem.
 * Returns undefined for 5xx: those are not refusals.
 */
export function answerToHttpException(error: unknown, c: Context<AppEnv>): Response | undefined {
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
