import { randomUUID } from 'node:crypto'
import { createMiddleware } from 'hono/factory'
import { methodNotAllowed } from 'hono/method-not-allowed'
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { type ClientAddress, createClientAddress } from './address.ts'
import { commonHeaders } from './common-headers.ts'
import { preflight } from './cors.ts'
import { renderProblem } from './problem.ts'
import { type AppEnv, createRouter } from './router.ts'

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

/** What every route shares: a request id, a log line, headers, origins, and one way to render errors. */
export function createServiceRouter({ config, log }: { config: Config; log: Logger }) {
  const address = createClientAddress(config.trustedProxies, () => {
    const consequence = 'if that is your proxy, all its clients share one address and its limits'
    if (config.production) log.warn(`X-Forwarded-For from a peer that is not in TRUSTED_PROXIES: ${consequence}`)
  })
  const router = createRouter()
  router.onError((error, c) => renderProblem(error, c, log))
  router.notFound((c) => renderProblem(new AppError('not_found', `There is nothing at ${c.req.path}.`), c, log))
  router.use(requestLog(log, address), commonHeaders(config), preflight(config.corsOrigins))
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
