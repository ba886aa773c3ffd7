import { randomUUID } from 'node:crypto'
import { createMiddleware } from 'hono/factory'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { routePath } from 'hono/route'
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import type { Metrics } from '../metrics.ts'
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
 * The ids of trace and span in `traceparent` (W3C Trace Context §3.2): no ids of zeros, no version ff, and nothing after the
 * flags in version 00.
 */
const TRACEPARENT = /^(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-|$)/

/**
 * Gives each request an id, and a line in the log: who asked from where, for what, how it ended and why. Never a query,
 * a body or a header other than `X-Request-Id` and `traceparent`: those may contain tokens.
 */
const requestLog = (log: Logger, address: ClientAddress, metrics: Metrics) =>
  createMiddleware<AppEnv>(async function requestLog(c, next) {
    const startedAt = performance.now()
    // Never the client's own id: one id in the log stands for one request, whatever clients send.
    const requestId = randomUUID()
    c.set('requestId', requestId)
    const [, traceId, spanId] = TRACEPARENT.exec(c.req.header('traceparent') ?? '') ?? []
    if (traceId !== undefined && spanId !== undefined) c.set('trace', { traceId, spanId })
    await next()
    const { status } = c.res
    const who = c.get('who')
    const problemCode = c.get('problemCode')
    const clientRequestId = c.req.header('X-Request-Id')?.slice(0, MAX_CLIENT_ID)
    const elapsed = performance.now() - startedAt
    const milliseconds = Math.round(elapsed * 10) / 10
    log.info({
      requestId,
      ...c.get('trace'),
      ...(clientRequestId ? { clientRequestId } : {}),
      method: c.req.method,
      path: c.req.path.slice(0, MAX_PATH),
      status,
      milliseconds,
      client: address(c),
      ...who,
      ...(problemCode === undefined ? {} : { code: problemCode }),
    })
    metrics.request(c.req.method, routePath(c, -1), status, problemCode, elapsed / 1000)
  })

/** What every route shares: a request id, a log line, headers, origins, and one way to render errors. */
export function createServiceRouter({ config, log, metrics }: { config: Config; log: Logger; metrics: Metrics }) {
  const address = createClientAddress(config.trustedProxies, () => {
    const consequence = 'if that is your proxy, all its clients share one address and its limits'
    if (config.production) log.warn(`X-Forwarded-For from a peer that is not in TRUSTED_PROXIES: ${consequence}`)
  })
  const router = createRouter()
  router.onError((error, c) => renderProblem(error, c, log))
  router.notFound((c) => renderProblem(new AppError('not_found', `There is nothing at ${c.req.path}.`), c, log))
  router.use(requestLog(log, address, metrics), commonHeaders(config), preflight(config.corsOrigins))
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
