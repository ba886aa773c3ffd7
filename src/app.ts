import { methodNotAllowed } from 'hono/method-not-allowed'
import { requestId } from 'hono/request-id'
import type { Logger } from 'pino'
import { agentTokenRoutes, FAILED_AGENT_SIGN_INS } from './agents/routes.ts'
import { auditRoutes } from './audit/routes.ts'
import { accounts as accountsOf } from './auth/accounts.ts'
import { attemptLimit } from './auth/attempts.ts'
import type { SigningKeys } from './auth/keys.ts'
import { authRoutes } from './auth/routes.ts'
import { accessTokens } from './auth/tokens.ts'
import { wellKnownRoutes } from './auth/well-known.ts'
import { background as backgroundOf } from './background.ts'
import { callbackGuard } from './callbacks/guard.ts'
import { livenessCheck } from './callbacks/liveness.ts'
import { callbackRoutes } from './callbacks/routes.ts'
import type { Config, Secrets } from './config.ts'
import { demoPage } from './demo/serve.ts'
import { describeApi } from './docs/openapi.ts'
import { docRoutes } from './docs/routes.ts'
import { AppError } from './errors.ts'
import { health as healthOf } from './health/health.ts'
import { healthRoutes } from './health/routes.ts'
import { clientAddresses } from './http/address.ts'
import { allowOrigins } from './http/cors.ts'
import { memoryCounters } from './http/counters.ts'
import { renderProblem } from './http/problem.ts'
import { rateLimits } from './http/rate-limit.ts'
import { requestLog } from './http/request-log.ts'
import { createRouter } from './http/router.ts'
import { securityHeaders } from './http/security-headers.ts'
import { joinTokenMinter } from './livekit/join-token.ts'
import type { LiveKit } from './livekit/livekit.ts'
import { webhookRoutes } from './livekit/routes.ts'
import { webhookReceiver } from './livekit/webhook.ts'
import { pruner } from './prune.ts'
import { roomRules } from './rooms/rooms.ts'
import { roomRoutes } from './rooms/routes.ts'
import { dispatcher } from './sessions/dispatch.ts'
import { eventStreams } from './sessions/event-streams.ts'
import { followUp as followUpOf } from './sessions/follow-up.ts'
import { reconciler } from './sessions/reconciler.ts'
import { removal as removalOf } from './sessions/removal.ts'
import { sessionRoutes } from './sessions/routes.ts'
import type { Store } from './store/open.ts'
import { joinTokens } from './tokens/mint.ts'
import { tokenRoutes } from './tokens/routes.ts'

interface AppDeps {
  config: Config
  secrets: Secrets
  store: Store
  keys: SigningKeys
  livekit: LiveKit
  version: string
  log: Logger
}

/** The whole service as a value: the HTTP app, and the work that `start.ts` starts and stops. */
export function createApp({ config, secrets, store, keys, livekit, version, log }: AppDeps) {
  const { clock, users, agents, rooms, sessions, events, audit } = store
  const rules = { reconnectMs: config.reconnectSeconds * 1000, maxSessionMs: config.maxSessionMinutes * 60_000 }

  const address = clientAddresses(config.trustedProxies, () => {
    const consequence = 'if that is your proxy, all its clients share one address and one limit'
    if (config.production) log.warn(`X-Forwarded-For from a peer that TRUSTED_PROXIES does not name: ${consequence}`)
  })
  const counters = memoryCounters()
  const limits = rateLimits(config, counters)

  const background = backgroundOf(log)
  const removal = removalOf({ sessions, livekit })
  const dispatches = dispatcher({ sessions, livekit, clock })
  const followUp = followUpOf({
    sessions,
    removal,
    dispatcher: dispatches,
    background,
    maxSessions: config.maxSessionsPerUser,
  })
  const { reconcile } = reconciler({
    sessions,
    rooms,
    livekit,
    removal,
    dispatcher: dispatches,
    followUp,
    rules,
    clock,
    log,
  })

  const tokens = accessTokens({ keys, publicUrl: config.publicUrl, clock })
  const accounts = accountsOf({ users, keys: store.keys, tokens, clock })
  const roomPolicy = roomRules({ rooms, livekit, config, now: clock.now })
  const admission = { livenessMs: config.livenessSeconds * 1000, wrapUpMs: config.wrapUpSeconds * 1000 }
  const liveness = livenessCheck({ sessions, livekit, followUp, rules, livenessMs: admission.livenessMs, clock })
  const guard = callbackGuard({
    limits,
    tokens,
    agents,
    sessions,
    audit,
    liveness,
    admission,
    clock,
  })
  const mint = joinTokens({
    users,
    agents,
    sessions,
    rooms: roomPolicy,
    mintJoinToken: joinTokenMinter(secrets.livekit, clock.now),
    rules,
    followUp,
    config,
    clock,
  })
  const streams = eventStreams({ events, sessions, wrapUpMs: admission.wrapUpMs, log, clock })
  const health = healthOf({ sessions, livekit, clock })
  const receiver = webhookReceiver(secrets.webhook, clock.now)
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
    .route('/', wellKnownRoutes({ keys, publicUrl: config.publicUrl }))
    .route('/', authRoutes({ accounts, tokens, limits, attempt: attemptLimit(counters), address, config }))
    .route('/', tokenRoutes({ tokens, agents, joinTokens: mint, limits, livekitUrl: config.livekitUrl }))
    .route('/', roomRoutes({ tokens, rules: roomPolicy, rooms, limits, now: clock.now }))
    .route('/', sessionRoutes({ tokens, sessions, events, streams, followUp }))
    .route('/', auditRoutes({ tokens, sessions, audit }))
    .route('/', agentTokenRoutes({ agents, tokens, limits, failures: counters(FAILED_AGENT_SIGN_INS), address, clock }))
    .route('/', callbackRoutes({ guard, users, sessions, events, followUp }))
    .route('/', webhookRoutes({ receiver, sessions, removal, followUp, background, rules, clock }))
    .route(
      '/',
      docRoutes(() => describeApi(router, { publicUrl: config.publicUrl, version })),
    )

  return {
    app,
    guard,
    reconcile,
    health,
    background,
    streams,
    prune: pruner({ accounts, keys: store.keys, rooms, sessions, events, config, clock }),
  }
}

export type Service = ReturnType<typeof createApp>

/** The typed routes, for a client built on `hono/client`. */
export type AppType = Service['app']
