import { requestId } from 'hono/request-id'
import type { Logger } from 'pino'
import { accounts } from './auth/accounts.ts'
import type { SigningKeys } from './auth/keys.ts'
import { authRoutes } from './auth/routes.ts'
import { accessTokens } from './auth/tokens.ts'
import { wellKnownRoutes } from './auth/well-known.ts'
import { agentTokenRoutes } from './agents/routes.ts'
import type { Config, Secrets } from './config.ts'
import { AppError } from './errors.ts'
import { renderProblem } from './http/problem.ts'
import { createRouter } from './http/router.ts'
import type { LiveKit } from './livekit/livekit.ts'
import type { Store } from './store/open.ts'

export interface AppDeps {
  config: Config
  secrets: Secrets
  store: Store
  keys: SigningKeys
  livekit: LiveKit
  log: Logger
  /** Milliseconds since the epoch. */
  now: () => number
}

/** The whole HTTP service as a value. */
export function createApp(deps: AppDeps) {
  const { config, store, keys, log, now } = deps
  const tokens = accessTokens({ keys, publicUrl: config.publicUrl, now })
  const app = createRouter()
  app.onError((error, c) => renderProblem(error, c, log))
  app.notFound((c) => renderProblem(new AppError('not_found', `There is nothing at ${c.req.path}.`), c, log))
  app.use(requestId())
  return app
    .route('/', wellKnownRoutes({ keys, publicUrl: config.publicUrl, now }))
    .route('/', authRoutes({ accounts: accounts({ users: store.users, keys: store.keys, tokens, now }), tokens, config }))
    .route('/', agentTokenRoutes({ agents: store.agents, tokens, now }))
}
