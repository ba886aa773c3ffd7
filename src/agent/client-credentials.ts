import type { Scope } from '../auth/scopes.ts'

/** The codes of RFC 6749 §5.2 that this endpoint can answer. */
export const TOKEN_ERRORS = ['invalid_request', 'invalid_client', 'unsupported_grant_type', 'invalid_scope'] as const
export type TokenErrorCode = (typeof TOKEN_ERRORS)[number]

/** An RFC 6749 §5.2 error. `message` becomes `error_description`: plain ASCII that never repeats the request. */
export class TokenError extends Error {
  readonly code: TokenErrorCode

  constructor(code: TokenErrorCode, message: string) {
    super(message)
    this.name = 'TokenError'
    this.code = code
  }
}

/** The parts of a POST that RFC 6749 §4.4.2 uses. */
interface TokenHttpRequest {
  url: string
  contentType: string | undefined
  authorization: string | undefined
  body: string
}

interface ClientCredentials {
  clientId: string
  secret: string
}

export interface TokenRequest extends ClientCredentials {
  /** Undefined when the client requested no scope. */
  scope: string | undefined
}

const FORM = /^application\/x-www-form-urlencoded\s*(?:;|$)/i
const BASIC = /^Basic +([A-Za-z0-9+/]+={0,2})$/i
const CREDENTIALS = ['client_id', 'client_secret']

/**
 * Reads a client credentials request (RFC 6749 §4.4.2); unknown parameters are ignored.
 * @throws TokenError for everything except wrong credentials and scopes, which only the account can check.
 */
export function readTokenRequest({ url, contentType, authorization, body }: TokenHttpRequest): TokenRequest {
  // RFC 6749 §2.3.1: never in the URI, which ends up in logs. Refused rather than ignored, so that the caller notices.
  const query = new URL(url).searchParams
  if (CREDENTIALS.some((name) => query.has(name))) {
    throw new TokenError('invalid_request', 'Client credentials are not accepted in the URL.')
  }
  if (!FORM.test(contentType ?? '')) {
    throw new TokenError('invalid_request', 'Send the parameters as application/x-www-form-urlencoded.')
  }
  const form = readForm(body)
  const grantType = form.get('grant_type')
  if (grantType === undefined) throw new TokenError('invalid_request', 'The parameter grant_type is missing.')
  if (grantType !== 'client_credentials') {
    throw new TokenError('unsupported_grant_type', 'The only supported grant is client_credentials.')
  }
  return { ...readCredentials(form, authorization), scope: form.get('scope') }
}

/** RFC 6749 §3.2: a parameter must not be repeated, and one without a value counts as omitted. */
function readForm(body: string): Map<string, string> {
  const seen = new Set<string>()
  const form = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(body)) {
    if (seen.has(name)) throw new TokenError('invalid_request', 'A parameter is repeated.')
    seen.add(name)
    if (value !== '') form.set(name, value)
  }
  return form
}

/** RFC 6749 §2.3.1: HTTP Basic or the form; a client must not use both (§2.3). */
function readCredentials(form: Map<string, string>, authorization: string | undefined): ClientCredentials {
  const clientId = form.get('client_id')
  const secret = form.get('client_secret')
  if (authorization === undefined) {
    if (clientId === undefined || secret === undefined) throw invalidClient()
    return { clientId, secret }
  }
  if (secret !== undefined) {
    throw new TokenError('invalid_request', 'Authenticate in the header or in the form, not both.')
  }
  const basic = readBasic(authorization)
  if (!basic) throw invalidClient()
  if (clientId !== undefined && clientId !== basic.clientId) {
    throw new TokenError('invalid_request', 'The header and client_id name different clients.')
  }
  return basic
}

/** RFC 6749 §2.3.1: id and secret are each form-urlencoded, then joined by a colon and base64-encoded. */
function readBasic(authorization: string): ClientCredentials | undefined {
  const encoded = BASIC.exec(authorization)?.[1]
  if (encoded === undefined) return undefined
  const pair = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = pair.indexOf(':')
  if (colon < 0) return undefined
  const clientId = formUrlDecode(pair.slice(0, colon))
  const secret = formUrlDecode(pair.slice(colon + 1))
  return clientId === undefined || secret === undefined ? undefined : { clientId, secret }
}

function formUrlDecode(value: string): string | undefined {
  try {
    return decodeURIComponent(value.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}

/** One answer for missing, malformed, unknown and wrong credentials and a disabled agent: it does not reveal which. */
export const invalidClient = () => new TokenError('invalid_client', 'Client authentication failed.')

/**
 * The scopes of a token: those requested, or all of the account's when the request names none (RFC 6749 §3.3).
 * @throws TokenError `invalid_scope` when the account lacks a requested scope
 */
export function grantScopes(held: readonly Scope[], asked: string | undefined): Scope[] {
  if (asked === undefined) return [...held]
  const wanted = asked.split(' ')
  const lacks = wanted.some((scope) => !held.some((own) => own === scope))
  if (lacks) throw new TokenError('invalid_scope', `This agent has only these scopes: ${held.join(' ') || 'none'}.`)
  return held.filter((scope) => wanted.includes(scope))
}
