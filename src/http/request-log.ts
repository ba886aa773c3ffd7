import { createMiddleware } from 'hono/factory'
import type { Logger } from 'pino'
import type { ClientAddress } from './address.ts'
import type { AppEnv } from './router.ts'

/** Characters. No route has a longer path. */
const MAX_PATH = 256

/** Characters of a client's own `X-Request-Id`. */
const MAX_CLIENT_ID = 128

/**
 * One line per request: who asked from where, for what, how it ended and why. Never a query, a body or a header other
 * than `X-Request-Id`: those may contain tokens.
 */
export const requestLog = (log: Logger, address: ClientAddress) =>
  createMiddleware<AppEnv>(async function requestLog(c, next) {
    const startedAt = performance.now()
    await next()
    const { requestId, problemCode, who } = c.var
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
