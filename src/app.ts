import { methodNotAllowed } from 'hono/method-not-allowed'
import { requestId } from 'hono/request-id'
import type { Logger } from 'pino'
import { createAgentRoute } from './agent/agent-route.ts'
import { callbackRoutes } from './agent/routes.ts'
import { agentTokenRoutes, FAILED_AGENT_SIGN_INS } from './agent/token-routes.ts'
import { createAccounts } from './auth/accounts.ts'
import { createAttemptLimit } from './auth/attempts.ts'
import type { UserEnv } from './auth/guards.ts'
import type { SigningKeys } from './auth/keys.ts'
import { authRoutes } from './auth/routes.ts'
import { createAccessTokens } from './auth/tokens.ts'
import { wellKnownRoutes } from './auth/well-known.ts'
import type { Config, Secrets } from './config.ts'
import { AppError } from './errors.ts'
import { createClientAddress } from './http/address.ts'
import { allowOrigins } from './http/cors.ts'
import { createCounters } from './http/counters.ts'
import { renderProblem } from './http/problem.ts'
import { createRateLimits } from './http/rate-limit.ts'
import { createReadLimit } from './http/reads.ts'
import { requestLog } from './http/request-log.ts'
import { createRouter } from './http/router.ts'
import { securityHeaders } from './http/security-headers.ts'
import { createJoinTokens } from './join/mint.ts'
import { roomRoutes } from './join/room-routes.ts'
import { createRooms } from './join/rooms.ts'
import { tokenRoutes } from './join/token-routes.ts'
import { createJoinTokenMinter } from './livekit/join-token.ts'
import type { LiveKit } from './livekit/livekit.ts'
import { createWebhookReceiver } from './livekit/webhook.ts'
import { demoPage } from './ops/demo.ts'
import { docRoutes } from './ops/docs-routes.ts'
import { createHealth } from './ops/health.ts'
import { healthRoutes } from './ops/health-routes.ts'
import { describeApi } from './ops/openapi.ts'
import { createPruner } from './ops/prune.ts'
import { auditRoutes } from './sessions/audit-routes.ts'
import { createBackground } from './sessions/background.ts'
import { createEventStreams } from './sessions/event-streams.ts'
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
  version: string
  log: Logger
}

/** Sessions of one user that wait to be joined: clients mint on mount and again on hang-up. */
const MAX_PENDING = 10

/** The whole service as a value: the HTTP app, and the work that `start.ts` starts and stops. */
export function createApp({ config, secrets, store, keys, livekit, version, log }: AppDeps) {
  const { clock, users, agents, rooms, events, audit } = store
  const rules = { reconnectMs: config.reconnectSeconds * 1000, maxSessionMs: config.maxSessionMinutes * 60_000 }

  const address = createClientAddress(config.trustedProxies, () => {
    const consequence = 'if that is your proxy, all its clients share one address and one limit'
    if (config.production) log.warn(`X-Forwarded-For from a peer that TRUSTED_PROXIES does not name: ${consequence}`)
  })
  const counters = createCounters()
  const limits = createRateLimits(config, counters)
  const limitReads = createReadLimit<UserEnv>(limits.userReads, (c) => c.var.user.userId)

  const background = createBackground(log)
  const limitsPerUser = { maxSessions: config.maxSessionsPerUser, maxPending: MAX_PENDING }
  const sessions = createSessions({ store: store.sessions, livekit, background, clock, rules, limits: limitsPerUser })
  const { reconcile } = createReconciler({ sessions, store, livekit, clock, log })

  const tokens = createAccessTokens({ keys, publicUrl: config.publicUrl, clock })
  const accounts = createAccounts({ users, keys: store.keys, tokens, clock })
  const roomPolicy = createRooms({ rooms, livekit, config, now: clock.now })
  const admission = { livenessMs: config.livenessSeconds * 1000, wrapUpMs: config.wrapUpSeconds * 1000 }
  const { livenessMs } = admission
  const liveness = createLivenessCheck({ sessions, store: store.sessions, livekit, rules, livenessMs, clock })
  const agentRoute = createAgentRoute({
    limits,
    tokens,
    agents,
    sessions: store.sessions,
    audit,
    liveness,
    admission,
    scopes: config.agentScopes,
    clock,
  })
  const mint = createJoinTokens({
    users,
    agents,
    sessions,
    store: store.sessions,
    rooms: roomPolicy,
    mintJoinToken: createJoinTokenMinter(secrets.livekit, clock.now),
    config,
    clock,
  })
  const streams = createEventStreams({ events, sessions: store.sessions, wrapUpMs: admission.wrapUpMs, log, clock })
  const health = createHealth({ sessions: store.sessions, livekit, clock })
  const receiver = createWebhookReceiver(secrets.webhook, clock.now)
  clock.onStep((milliseconds) => {
    const direction = milliseconds < 0 ? 'back' : 'ahead'
    const asks = 'LiveKit is asked again before anything is accepted'
    log.warn(`the system clock was set ${direction} by ${Math.abs(milliseconds) / 1000} s: ${asks}`)
  })

  const router = createRouter()
  router.onError((error, c) => renderProblem(error, c, log))
  router.notFound((c) => renderProblem(new AppError('not_found', `There is nothing at ${c.req.path}.`), c, log))
  router.use(requestId(), requestLog(log, address), securityHeaders(config), allowOrigins(config.corsOrigins))
  router.use(
    methodNotAllowed({
      app: router,
      onMethodNotAllowed: (c, methods) => {
        c.header('Allow', methods.join(', '))
        return renderProblem(new AppError('method_not_allowed', `Use ${methods.join(' or ')} here.`), c, log)
      },
    }),
  )
  if (config.demo) router.use('/demo/*', demoPage(config.livekitUrl))
  const app = router
    .route('/', healthRoutes({ health, version }))
    .route('/', wellKnownRoutes({ keys, publicUrl: config.publicUrl, scopes: config.agentScopes }))
    .route(
      '/',
      authRoutes({ accounts, tokens, limits, limitReads, attempt: createAttemptLimit(counters), address, config }),
    )
    .route('/', tokenRoutes({ tokens, agents, joinTokens: mint, limits, livekitUrl: config.livekitUrl }))
    .route('/', roomRoutes({ tokens, rules: roomPolicy, rooms, limits, now: clock.now }))
    .route('/', sessionRoutes({ tokens, limitReads, sessions, store, streams }))
    .route('/', auditRoutes({ tokens, limitReads, sessions: store.sessions, audit }))
    .route('/', agentTokenRoutes({ agents, tokens, limits, failures: counters(FAILED_AGENT_SIGN_INS), address, clock }))
    .route('/', callbackRoutes({ agentRoute, users, sessions, events }))
    .route('/', webhookRoutes({ receiver, sessions, store: store.sessions, background, clock }))
    .route(
      '/',
      docRoutes(() => describeApi(router, { publicUrl: config.publicUrl, version })),
    )

  return {
    app,
    agentRoute,
    sessions,
    reconcile,
    health,
    background,
    streams,
    prune: createPruner({ accounts, keys: store.keys, rooms, sessions: store.sessions, config, clock }),
  }
}

export type Service = ReturnType<typeof createApp>

/** The typed routes, for a client built on `hono/client`. */
export type AppType = Service['app']
