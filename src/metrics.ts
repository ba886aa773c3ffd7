import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** Node's parser accepts some thirty methods, and routes have these. */
const METHODS = new Set(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'])

/** Read when Prometheus asks. */
interface Sources {
  streams: () => number
  workers: () => number
}

/**
 * The service's Prometheus metrics; docs/operations.md says what each means. A label's values come from the code, never
 * from a client: no ids, no paths, no names.
 */
export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  const requests = new Counter({
    name: 'behalf_http_requests_total',
    help: 'Requests answered, by route pattern; `code` is the problem code of a refusal.',
    labelNames: ['method', 'route', 'status', 'code'],
    registers,
  })
  const requestSeconds = new Histogram({
    name: 'behalf_http_request_duration_seconds',
    help: 'From the request’s head to the answer’s head.',
    labelNames: ['method', 'route'],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    registers,
  })
  let hasProcessMetrics = false

  return {
    request(method: string, route: string, status: number, code: string | undefined, seconds: number): void {
      const known = METHODS.has(method) ? method : 'other'
      requests.inc({ method: known, route, status, code: code ?? '' })
      requestSeconds.observe({ method: known, route }, seconds)
    },
    guardDecisions: new Counter({
      name: 'behalf_guard_decisions_total',
      help: 'Decisions on agents’ callbacks, as in the audit trail: allowed, replayed or why not.',
      labelNames: ['outcome'],
      registers,
    }),
    confirmationAge: new Histogram({
      name: 'behalf_guard_confirmation_age_seconds',
      help: 'Age of LiveKit’s confirmation that the user is in the room, when a callback was allowed.',
      buckets: [0.01, 0.1, 0.5, 1, 2, 5, 10, 15, 30, 60],
      registers,
    }),
    webhooks: new Counter({
      name: 'behalf_webhooks_total',
      help: 'Webhooks from LiveKit: stored, duplicate, or why refused.',
      labelNames: ['outcome'],
      registers,
    }),
    webhookLag: new Histogram({
      name: 'behalf_webhook_lag_seconds',
      help: 'From LiveKit’s event, dated in whole seconds, to its first receipt.',
      buckets: [1, 2, 5, 10, 20, 30, 60, 120, 300],
      registers,
    }),
    reconciliationSeconds: new Histogram({
      name: 'behalf_reconciliation_duration_seconds',
      help: 'Comparisons with LiveKit; incomplete when it did not answer everything.',
      labelNames: ['outcome'],
      buckets: [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20],
      registers,
    }),
    sessions: new Gauge({
      name: 'behalf_sessions',
      help: 'Sessions that have not ended, as the last comparison with LiveKit found them in the store.',
      labelNames: ['status'],
      registers,
    }),
    corrections: new Counter({
      name: 'behalf_reconciliation_corrections_total',
      help: 'Sessions that a comparison with LiveKit found joined or left unnoticed.',
      registers,
    }),
    livekitSeconds: new Histogram({
      name: 'behalf_livekit_request_duration_seconds',
      help: 'Requests to LiveKit’s API, answered or not.',
      labelNames: ['method'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 10],
      registers,
    }),
    livekitErrors: new Counter({
      name: 'behalf_livekit_errors_total',
      help: 'Requests that LiveKit did not answer as expected, by kind as in /health.',
      labelNames: ['kind'],
      registers,
    }),
    clockSkew: new Gauge({
      name: 'behalf_clock_skew_seconds',
      help: 'How far this machine’s clock is ahead of LiveKit’s (negative: behind), by its last answer.',
      registers,
    }),
    commitWrites: new Histogram({
      name: 'behalf_store_commit_writes',
      help: 'Writes that shared one transaction and its fsync.',
      buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
      registers,
    }),
    watch({ streams, workers }: Sources): void {
      const gauge = (name: string, help: string, read: () => number) =>
        new Gauge({
          name,
          help,
          registers,
          collect() {
            this.set(read())
          },
        })
      gauge('behalf_event_streams', 'Open event streams.', streams)
      gauge('behalf_workers', 'Workers connected through the gateway.', workers)
    },
    contentType: registry.contentType,
    /** Everything in Prometheus's text format. Node's own metrics are collected from the first call on. */
    text(): Promise<string> {
      if (!hasProcessMetrics) collectDefaultMetrics({ register: registry })
      hasProcessMetrics = true
      return registry.metrics()
    },
  }
}

export type Metrics = ReturnType<typeof createMetrics>
