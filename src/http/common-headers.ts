import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import type { Config } from '../config.ts'
import { EXPOSED, isAllowed } from './cors.ts'
import type { AppEnv } from './router.ts'
import { REQUEST_ID, ServiceResponse } from './server.ts'

/**
 * The headers of every answer, unless a route sets its own: it is about a user, or as of now, so it may not be cached; no
 * browser may take it for a page; pages of other origins may read it only if they are allowed to.
 */
export function commonHeaders({ production, corsOrigins }: Pick<Config, 'production' | 'corsOrigins'>) {
  const always = Object.entries({
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    // One year, and only with https; the service does not decide for subdomains.
    ...(production ? { 'strict-transport-security': 'max-age=31536000' } : {}),
    'access-control-expose-headers': EXPOSED.join(','),
    vary: 'Origin',
  })

  return createMiddleware<AppEnv>(async function commonHeaders(c, next) {
    const headers = [...always]
    const { requestId } = c.var
    if (requestId !== undefined) headers.push([REQUEST_ID, requestId])
    const origin = c.req.header('Origin')
    if (origin !== undefined && isAllowed(origin, corsOrigins)) headers.push(['access-control-allow-origin', origin])
    // Not by way of the answer's own Headers, which take longer than most requests.
    const { outgoing } = c.env ?? {}
    if (outgoing instanceof ServiceResponse) outgoing.commonHeaders = headers
    await next()
    if (!(outgoing instanceof ServiceResponse)) addTo(c, headers)
  })
}

/** For an app without the service's server, as in tests. */
function addTo(c: Context, headers: ReadonlyArray<readonly [string, string]>): void {
  const made = c.res
  c.res = undefined
  // A response that a route made may have immutable headers, as those of `fetch` are.
  c.res = new Response(made.body, made)
  for (const [name, value] of headers) {
    if (name === 'vary') c.res.headers.append(name, value)
    else if (name === REQUEST_ID || !c.res.headers.has(name)) c.res.headers.set(name, value)
  }
}
