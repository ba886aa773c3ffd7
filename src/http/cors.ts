import type { MiddlewareHandler } from 'hono'
import { cors } from 'hono/cors'
import type { Config } from '../config.ts'
import { isPrivateHost } from './address.ts'

const PREFLIGHT_SECONDS = 600
/** The web, and the schemes that app shells serve their pages with. */
const LOCAL_SCHEMES = new Set(['http:', 'https:', 'capacitor:', 'ionic:', 'tauri:'])

/** Headers of answers that the code of a page may read. */
export const EXPOSED = ['RateLimit', 'RateLimit-Policy', 'Retry-After', 'WWW-Authenticate', 'X-Request-Id']

/** Answers a browser's preflights. The service uses no cookies, so it allows no credentials. */
export function preflight(origins: Config['corsOrigins']): MiddlewareHandler {
  const answer = cors({
    origin: (origin) => (isAllowed(origin, origins) ? origin : null),
    // Any request header may be sent (tracing, tunnels): a caller is known by the bearer token alone.
    // PUT and PATCH are for a team's own routes.
    allowMethods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposeHeaders: EXPOSED,
    maxAge: PREFLIGHT_SECONDS,
  })
  return (c, next) => (c.req.method === 'OPTIONS' ? answer(c, next) : next())
}

/** Whether a page of that origin may call the service. */
export function isAllowed(origin: string, origins: Config['corsOrigins']): boolean {
  if (origins !== 'local') return origins.some((allowed) => matches(origin, allowed))
  if (!URL.canParse(origin)) return false
  const { protocol, hostname } = new URL(origin)
  return LOCAL_SCHEMES.has(protocol) && isPrivateHost(hostname)
}

/** `*` stands for one label. */
function matches(origin: string, allowed: string): boolean {
  const [scheme, rest] = allowed.split('*')
  if (scheme === undefined || rest === undefined) return origin === allowed
  return (
    origin.startsWith(scheme) && origin.endsWith(rest) && /^[a-z0-9-]+$/.test(origin.slice(scheme.length, -rest.length))
  )
}

/** An entry of CORS_ORIGINS as a browser writes that origin; undefined for what is none. */
export function readOrigin(entry: string): string | undefined {
  const isPattern = /^https?:\/\/\*\.[^.*]+\.[^*]+$/i.test(entry)
  if (!isPattern && /^[a-z][a-z0-9+.-]*:\/\/[^/*?#@\s]+$/i.test(entry) && !/^(https?|wss?|ftp|file):/i.test(entry)) {
    return entry.toLowerCase()
  }
  const text = isPattern ? entry.replace('*', 'any') : entry
  if (!URL.canParse(text) || text.includes('*')) return undefined
  const { protocol, origin, href } = new URL(text)
  if (!/^https?:$/.test(protocol) || href !== `${origin}/`) return undefined
  return isPattern ? origin.replace('any', '*') : origin
}
