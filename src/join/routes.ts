import type { Logger } from 'pino'
import type { AccessTokens } from '../auth/tokens.ts'
import type { Config, KeyPair } from '../config.ts'
import type { RateLimits } from '../http/rate-limit.ts'
import { createRouter } from '../http/router.ts'
import { createJoinTokenMinter } from '../livekit/join-token.ts'
import type { LiveKit } from '../livekit/livekit.ts'
import type { Assignments } from '../sessions/assignments.ts'
import type { LivenessCheck } from '../sessions/liveness.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { Store } from '../store/store.ts'
import { createJoinTokens } from './mint.ts'
import { roomRoutes } from './room-routes.ts'
import { createRooms } from './rooms.ts'
import { tokenRoutes } from './token-routes.ts'

interface JoinRoutesDeps {
  tokens: AccessTokens
  sessions: Sessions
  liveness: LivenessCheck
  assignments: Pick<Assignments, 'hasJob'> | null
  store: Store
  livekit: LiveKit
  livekitKeys: KeyPair
  limits: RateLimits
  config: Config
  log: Logger
}

/** `/token` and `/rooms`: what a client may ask for, and what is minted. */
export function joinRoutes(deps: JoinRoutesDeps) {
  const { tokens, sessions, liveness, assignments, store, livekit, livekitKeys, limits, config, log } = deps
  const { now } = store.clock
  const rooms = createRooms({ rooms: store.rooms, livekit, config, now })
  const mintJoinToken = createJoinTokenMinter(livekitKeys, now)
  const joinTokens = createJoinTokens({ store, sessions, rooms, mintJoinToken, liveness, assignments, config, log })
  return createRouter()
    .route('/', tokenRoutes({ tokens, agents: store.agents, joinTokens, limits, livekitUrl: config.livekitPublicUrl }))
    .route('/', roomRoutes({ tokens, rooms, limits }))
}
