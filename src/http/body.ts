import type { Context, MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { createMiddleware } from 'hono/factory'
import { AppError } from '../errors.ts'
import { parseJson } from './json.ts'
import type { AppEnv } from './router.ts'

/** Bytes. Far above any body that the API expects, far below what would hurt. */
export const MAX_BODY_BYTES = 64 * 1024

/** Refusals of a route behind `limitBody` and `jsonBody` that has a schema for its body. */
export const jsonBodyRefusals = [
  'malformed_json',
  'body_too_large',
  'unsupported_media_type',
  'validation_failed',
] as const

const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i

/** Refuses longer bodies with 413, whether announced (Content-Length) or streamed. */
export function limitBody(maxSize: number): MiddlewareHandler {
  const tooLarge = () => new AppError('body_too_large', `The body is longer than ${maxSize} bytes.`)
  const limitStream = bodyLimit({
    maxSize,
    onError: () => {
      throw tooLarge()
    },
  })
  return function limitBody(c, next) {
    if (isBodiless(c)) return next()
    const length = c.req.header('Content-Length')
    // Node holds a body to its announced length, so only one without has to be counted, which needs a web stream.
    if (length === undefined || c.req.header('Transfer-Encoding') !== undefined) return limitStream(c, next)
    if (Number(length) <= maxSize) return next()
    throw tooLarge()
  }
}

/**
 * A body must be JSON (415) in UTF-8 that is stored as it was sent (400); an absent one counts as `{}`, so that the schema
 * can report what is missing. Without an Authorization header even that needs the content type: browsers send neither
 * across origins without a preflight.
 */
export const jsonBody = createMiddleware<AppEnv>(async function jsonBody(c, next) {
  if (isBodiless(c)) return next()
  const type = c.req.header('Content-Type') ?? ''
  const isJson = JSON_TYPE.test(type)
  const mayBeAbsent = isJson || c.req.header('Authorization') !== undefined
  const bytes = mayBeAbsent ? await c.req.arrayBuffer() : undefined
  if (!bytes || (!isJson && bytes.byteLength > 0)) {
    throw new AppError('unsupported_media_type', 'Send Content-Type: application/json.')
  }
  const text = bytes.byteLength > 0 ? decode(bytes) : '{}'
  const parsed = parseJson(text)
  if ('problem' in parsed) throw new AppError('malformed_json', `The body ${parsed.problem}.`)
  // The framework's own check refuses what HTTP allows, such as a space before the semicolon.
  if (type !== 'application/json') c.req.raw.headers.set('Content-Type', 'application/json')
  Object.assign(c.req.bodyCache, { text: Promise.resolve(text) })
  return next()
})

/** The Fetch standard gives requests of these methods no body, whatever arrived. */
const isBodiless = ({ req }: Context) => req.method === 'GET' || req.method === 'HEAD'

const UTF8 = new TextDecoder('utf-8', { fatal: true })

function decode(bytes: ArrayBuffer): string {
  try {
    return UTF8.decode(bytes)
  } catch {
    throw new AppError('malformed_json', 'The body is not UTF-8.')
  }
}
