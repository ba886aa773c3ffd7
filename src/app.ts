import type { Logger } from 'pino'
import { createAgentRoute } from './agent/agent-route.ts'
import { callRoutes } from './agent/call-routes.ts'
import { createGateway } from './agent/gateway.ts'
import { agentRoutes } from './agent/routes.ts'
import { createAccounts } from './auth/accounts.ts'
import { createUserReadLimit } from './auth/guards.ts'
import type { SigningKeys } from './auth/keys.ts'
import { authRoutes } from './auth/routes.ts'
import { createAccessTokens } from './auth/tokens.ts'
import type { Config, Secrets } from './config.ts'
import { createRateLimits } from './http/rate-limit.ts'
import { createServiceRouter } from './http/service-router.ts'
import { joinRoutes } from './join/routes.ts'
import type { ReportSkew } from './livekit/clock-skew.ts'
import type { LiveKit } from './livekit/livekit.ts'
import { createWorkerConnector } from './livekit/worker-socket.ts'
import type { Metrics } from './metrics.ts'
import { createHealth } from './ops/health.ts'
import { metricsRoutes } from './ops/metrics-routes.ts'
import { createPruner } from './ops/prune.ts'
import { opsRoutes } from './ops/routes.ts'
import { createAssignments } from './sessions/assignments.ts'
import { createBackground } from './sessions/background.ts'
import { createEventStreams } from './sessions/event-stream.ts'
import { createLivenessCheck } from './sessions/liveness.ts'
import { createReconciler } from './sessions/reconciler.ts'
import { sessionRoutes } from './sessions/routes.ts'
import { createSessions } from './sessions/sessions.ts'
import { webhookRoutes } from './sessions/webhook-routes.ts'
import type { Store } from './store/store.ts'

interface AppDeps {
  config: Config
  secrets: Secrets
  store: Store
  keys: SigningKeys
  livekit: LiveKit
  reportSkew: ReportSkew
  version: string
  log: Logger
  metrics: Metrics
}

/** Pending sessions per user: clients mint a join token on mount and again on hang-up. */
const MAX_PENDING = 10

/** The whole service as a value: the HTTP app, and the work that `start.ts` starts and stops. */
export function createApp(deps: AppDeps) {
  const { config, secrets, store, keys, livekit, reportSkew, version, log, metrics } = deps
  const { clock, users, agents, events } = store
  const rules = { reconnectMs: config.reconnectSeconds * 1000, maxSessionMs: config.maxSessionMinutes * 60_000 }

  const { router, address } = createServiceRouter({ config, log, metrics })
  const limits = createRateLimits(config, store.counters)
  const limitReads = createUserReadLimit(limits)

  const background = createBackground(log)
  const sessionLimits = {
    maxSessions: config.maxSessionsPerUser,
    maxPending: MAX_PENDING,
    maxEvents: config.maxEventsPerSession,
    maxEventBytes: config.maxEventBytesPerSession,
  }
  const sessions = createSessions({
    store: store.sessions,
    accounts: agents,
    livekit,
    background,
    clock,
    rules,
    limits: sessionLimits,
    jobMetadata: config.jobMetadata,
  })
  const jobs = createAssignments(store)
  const { reconcile, reconcileAgents } = createReconciler({
    sessions,
    store,
    jobs,
    livekit,
    clock,
    maxSessions: sessionLimits.maxSessions,
    log,
    metrics,
  })
  const admission = { livenessMs: config.livenessSeconds * 1000, wrapUpMs: config.wrapUpSeconds * 1000 }
  const { livenessMs, wrapUpMs } = admission
  const liveness = createLivenessCheck({ sessions, store: store.sessions, livekit, rules, livenessMs, clock })
  const streams = createEventStreams({ events, sessions: store.sessions, users, wrapUpMs, log, clock })
  const health = createHealth({ sessions: store.sessions, livekit, clock })

  const tokens = createAccessTokens({ keys, users, publicUrl: config.publicUrl, clock })
  const accounts = createAccounts({ users, keys: store.keys, tokens, clock, endSessions: sessions.signOut })
  const scopes = config.agentScopes
  const assignments = config.requireAssignment ? jobs : null
  const agentRoute = createAgentRoute({ limits, tokens, store, liveness, admission, scopes, assignments, metrics })
  clock.onStep((milliseconds) => {
    const direction = milliseconds < 0 ? 'back' : 'ahead'
    const consequence = 'presence is confirmed with LiveKit again before callbacks are accepted'
    log.warn(`the system clock was set ${direction} by ${Math.abs(milliseconds) / 1000} s: ${consequence}`)
  })

  const livekitKeys = secrets.livekit
  const connect = createWorkerConnector(config.livekitUrl, livekitKeys, clock.now)
  const gateway = createGateway({
    store,
    jobs,
    background,
    reconcile,
    connect,
    livekitUrl: config.livekitPublicUrl,
    limits,
    address,
    log,
  })
  metrics.watch({ streams: streams.count, workers: gateway.workers })
  if (secrets.metrics !== undefined) router.route('/', metricsRoutes(metrics, secrets.metrics))
  const app = router
    .route('/', opsRoutes({ health, version, config, router: () => router }))
    .route('/', authRoutes({ accounts, tokens, limits, limitReads, address, keys, config }))
    .route(
      '/',
      joinRoutes({ tokens, sessions, liveness, assignments, store, livekit, livekitKeys, limits, config, log }),
    )
    // Before the users' routes below /sessions, whose guard would refuse an agent's token.
    .route('/', callRoutes({ tokens, sessions, store, livekit, background, limits, config }))
    .route('/', sessionRoutes({ tokens, limitReads, sessions, store, streams }))
    .route(
      '/',
      webhookRoutes({
        keys: secrets.webhook,
        reportSkew,
        sessions,
        reconcileAgents,
        store: store.sessions,
        background,
        clock,
        metrics,
      }),
    )
    .route('/', agentRoutes({ agentRoute, store, sessions, tokens, limits, address }))
    .route('/', gateway.routes)

  return {
    app,
    agentRoute,
    sessions,
    reconcile,
    health,
    background,
    streams,
    gateway,
    prune: createPruner({ store, config, clock }),
  }
}

export type Service = ReturnType<typeof createApp>
