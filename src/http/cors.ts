import { cors } from 'hono/cors'
import type { Config } from '../config.ts'

const PREFLIGHT_SECONDS = 600
const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]'])

/** Allows browsers only from these origins. The service uses no cookies, so it allows no credentials. */
export const allowOrigins = (origins: Config['corsOrigins']) =>
  cors({
    origin: (origin) => (isAllowed(origin, origins) ? origin : null),
    allowHeaders: ['Authorization', 'Content-Type', 'Idempotency-Key', 'Last-Event-ID'],
    // PUT and PATCH are for a team's own routes.
    allowMethods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposeHeaders: ['RateLimit', 'RateLimit-Policy', 'Retry-After', 'WWW-Authenticate', 'X-Request-Id'],
    maxAge: PREFLIGHT_SECONDS,
  })

function isAllowed(origin: string, origins: Config['corsOrigins']): boolean {
  if (origins !== 'localhost') return origins.includes(origin)
  return URL.canParse(origin) && LOOPBACK.has(new URL(origin).hostname)
}
