import { createMiddleware } from 'hono/factory'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { requestId } from 'hono/request-id'
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { createClientAddress } from './address.ts'
import { allowOrigins } from './cors.ts'
import { renderProblem } from './problem.ts'
import { requestLog } from './request-log.ts'
import { type AppEnv, createRouter } from './router.ts'
import { securityHeaders } from './security-headers.ts'

/** Answers are about users, or as of now: none may be cached unless its route says so. */
const notStored = createMiddleware<AppEnv>(async function notStored(c, next) {
  await next()
  if (!c.res.headers.has('Cache-Control')) c.res.headers.set('Cache-Control', 'no-store')
})

interface ServiceRouterDeps {
  config: Config
  log: Logger
}

/** What every route shares: a request id, a log line, headers, origins, and one way to render errors. */
export function createServiceRouter({ config, log }: ServiceRouterDeps) {
  const address = createClientAddress(config.trustedProxies, () => {
    const consequence = 'if that is your proxy, all its clients share one address and its limits'
    if (config.production) log.warn(`X-Forwarded-For from a peer that is not in TRUSTED_PROXIES: ${consequence}`)
  })
  const router = createRouter()
  router.onError((error, c) => renderProblem(error, c, log))
  router.notFound((c) => renderProblem(new AppError('not_found', `There is nothing at ${c.req.path}.`), c, log))
  router.use(
    // No client's id is that short: one id in the log stands for one request, whatever clients send.
    requestId({ limitLength: 0 }),
    requestLog(log, address),
    securityHeaders(config),
    notStored,
    allowOrigins(config.corsOrigins),
  )
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
