// biome-ignore-all lint/performance/noBarrelFile: the package's public entry `./client`
export {
  type AgentCallOptions,
  type AgentClient,
  type AgentClientOptions,
  agentClient,
  type Context,
  type EndedSession,
  type EndOptions,
  type Pair,
  type ProgressData,
  type ProgressOptions,
  type StoredProgress,
} from './client/agent.ts'
export type { EventsOptions, SessionEvent } from './client/events.ts'
export { type ProblemCode, ProblemError } from './client/problem.ts'
export type { Clock } from './client/retry.ts'
export type { Credentials, GuestDetails, RefreshTokenStorage, Registration, User } from './client/sign-in.ts'
export type { CustomTokenSources, JoinRequest, JoinToken } from './client/token-source.ts'
export type { Fetch } from './client/transport.ts'
export {
  type CallOptions,
  type Me,
  type Session,
  type SessionPage,
  type SessionQuery,
  type UserClient,
  type UserClientOptions,
  userClient,
} from './client/user.ts'
