import { hash, timingSafeEqual } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import { createRoute, z } from '@hono/zod-openapi'
import { AppError } from '../errors.ts'
import { bearerRefusals, bearerToken } from '../http/bearer.ts'
import { problems } from '../http/problem.ts'
import { createRouter } from '../http/router.ts'
import type { Metrics } from '../metrics.ts'

const sha256 = (token: string) => hash('sha256', token, 'buffer')

/** `GET /metrics` beside the API, for the holder of METRICS_TOKEN. */
export function metricsRoutes(metrics: Metrics, token: string) {
  const expected = sha256(token)
  return createRouter().openapi(
    createRoute({
      method: 'get',
      path: '/metrics',
      operationId: 'getMetrics',
      tags: ['Operation'],
      security: [{ metricsToken: [] }],
      summary: 'Metrics for Prometheus',
      responses: {
        200: { description: 'In Prometheus’s text format.', content: { 'text/plain': { schema: z.string() } } },
        ...problems(...bearerRefusals, 'invalid_token'),
      },
    }),
    async (c) => {
      if (!timingSafeEqual(sha256(bearerToken(c)), expected)) {
        throw new AppError('invalid_token', 'This is not the METRICS_TOKEN.')
      }
      return c.text(await metrics.text(), 200, { 'Content-Type': metrics.contentType })
    },
  )
}

/** `GET /metrics` on METRICS_PORT, which only Prometheus should reach: without authentication, and nothing else. */
export function listenForMetrics(metrics: Metrics, port: number, host: string): Server {
  return createServer(({ method, url }, response) => {
    if (url !== '/metrics' || method !== 'GET') {
      response.writeHead(404).end()
      return
    }
    metrics.text().then(
      (text) => response.writeHead(200, { 'Content-Type': metrics.contentType }).end(text),
      () => response.writeHead(500).end(),
    )
  }).listen(port, host)
}
