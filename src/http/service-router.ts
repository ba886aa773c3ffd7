import { randomUUID } from 'node:crypto'
import { createMiddleware } from 'hono/factory'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { secureHeaders } from 'hono/secure-headers'
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { type ClientAddress, createClientAddress } from './address.ts'
import { allowOrigins } from './cors.ts'
import { renderProblem } from './problem.ts'
import { type AppEnv, createRouter } from './router.ts'

/**
 * Answers are about users, or as of now: none may be cached unless its route says so. A response that a route made itself
 * gets the headers set so far; its own may be immutable, as those of `fetch` are.
 */
const completeAnswer = createMiddleware<AppEnv>(async function completeAnswer(c, next) {
  await next()
  const { res } = c
  if (!res.headers.has('X-Request-Id')) {
    c.res = undefined
    c.res = c.newResponse(res.body, res)
  }
  if (!c.res.headers.has('Cache-Control')) c.res.headers.set('Cache-Control', 'no-store')
})

/** Characters. No route has a longer path. */
const MAX_PATH = 256
/** Characters of a client's own `X-Request-Id`. */
const MAX_CLIENT_ID = 128

/**
 * Gives each request an id, and a line in the log: who asked from where, for what, how it ended and why. Never a query, a body or a header other
 * than `X-Request-Id`: those may contain tokens.
 */
const requestLog = (log: Logger, address: ClientAddress) =>
  createMiddleware<AppEnv>(async function requestLog(c, next) {
    const startedAt = performance.now()
    // Never the client's own id: one id in the log stands for one request, whatever clients send.
    const requestId = randomUUID()
    c.set('requestId', requestId)
    c.header('X-Request-Id', requestId)
    await next()
    const who = c.get('who')
    const problemCode = c.get('problemCode')
    const clientRequestId = c.req.header('X-Request-Id')?.slice(0, MAX_CLIENT_ID)
    const milliseconds = Math.round((performance.now() - startedAt) * 10) / 10
    log.info({
      requestId,
      ...(clientRequestId ? { clientRequestId } : {}),
      method: c.req.method,
      path: c.req.path.slice(0, MAX_PATH),
      status: c.res.status,
      milliseconds,
      client: address(c),
      ...who,
      ...(problemCode === undefined ? {} : { code: problemCode }),
    })
  })

/** Security headers for every response. Pages that need other values set these headers themselves. */
export const securityHeaders = ({ production }: { production: boolean }) =>
  secureHeaders({
    overwrite: false,
    contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
    // One year, and only with https; the service does not decide for subdomains.
    strictTransportSecurity: production ? 'max-age=31536000' : false,
    xFrameOptions: 'DENY',
    // For obsolete browsers, or meaningless for an API.
    originAgentCluster: false,
    removePoweredBy: false,
    xDnsPrefetchControl: false,
    xDownloadOptions: false,
    xPermittedCrossDomainPolicies: false,
    xXssProtection: false,
  })

/** What every route shares: a request id, a log line, headers, origins, and one way to render errors. */
export function createServiceRouter({ config, log }: { config: Config; log: Logger }) {
  const address = createClientAddress(config.trustedProxies, () => {
    const consequence = 'if that is your proxy, all its clients share one address and its limits'
    if (config.production) log.warn(`X-Forwarded-For from a peer that is not in TRUSTED_PROXIES: ${consequence}`)
  })
  const router = createRouter()
  router.onError((error, c) => renderProblem(error, c, log))
  router.notFound((c) => renderProblem(new AppError('not_found', `There is nothing at ${c.req.path}.`), c, log))
  router.use(requestLog(log, address), securityHeaders(config), allowOrigins(config.corsOrigins), completeAnswer)
  router.use(
    methodNotAllowed({
      app: router,
      onMethodNotAllowed: (c, methods) => {
        c.header('Allow', methods.join(', '))
        return renderProblem(new AppError('method_not_allowed', `Use ${methods.join(' or ')} here.`), c, log)
      },
    }),
  )
  return { router, address }
}
