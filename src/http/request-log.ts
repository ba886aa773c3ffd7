import { createMiddleware } from 'hono/factory'
import type { Logger } from 'pino'
import type { AppEnv } from './router.ts'

/** One line per request: what, how it ended and why. Never a header, a query or a body: tokens are in those. */
export const requestLog = (log: Logger) =>
  createMiddleware<AppEnv>(async function requestLog(c, next) {
    const startedAt = performance.now()
    await next()
    const { requestId, problemCode } = c.var
    const milliseconds = Math.round((performance.now() - startedAt) * 10) / 10
    const line = { requestId, method: c.req.method, path: c.req.path, status: c.res.status, milliseconds }
    log.info(problemCode === undefined ? line : { ...line, code: problemCode })
  })
