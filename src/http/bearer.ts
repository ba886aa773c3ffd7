import type { Context } from 'hono'
import { AppError } from '../errors.ts'

/** The codes that both functions below refuse with. */
export const bearerRefusals = ['missing_token', 'invalid_request'] as const

const BEARER = /^Bearer ([A-Za-z0-9\-._~+/]+=*)$/i

/**
 * The bearer token of the Authorization header (RFC 6750 §2.1).
 * @throws AppError `missing_token` without one, `invalid_request` for a header that is not one bearer token.
 */
export function bearerToken(c: Context): string {
  const token = optionalBearerToken(c)
  if (token === undefined) throw new AppError('missing_token', 'Send an access token: Authorization: Bearer <token>.')
  return token
}

/** The same for an optional token: `undefined` without the header; a malformed one is still refused. */
export function optionalBearerToken(c: Context): string | undefined {
  const header = c.req.header('Authorization')
  if (header === undefined) return undefined
  // Two headers arrive joined by a comma, which the anchored pattern refuses.
  const match = BEARER.exec(header)
  if (match?.[1]) return match[1]
  if (/^Bearer\b/i.test(header)) throw new AppError('invalid_request', 'The Authorization header is malformed.')
  throw new AppError('missing_token', 'Only bearer tokens are accepted here: Authorization: Bearer <token>.')
}
