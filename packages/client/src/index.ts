// biome-ignore-all lint/performance/noBarrelFile: the package's public entry
export {
  type AgentCallOptions,
  type AgentClient,
  type AgentClientOptions,
  agentClient,
  type EndOptions,
  type ProgressOptions,
  type RequestFields,
  type RequestOptions,
} from './agent.ts'
export type { EventsOptions } from './events.ts'
export { type ProblemCode, ProblemError } from './problem.ts'
export type { Clock } from './retry.ts'
export type { RefreshTokenStorage } from './sign-in.ts'
export type { CustomTokenSources } from './token-source.ts'
export type { Fetch } from './transport.ts'
export { type CallOptions, type UserClient, type UserClientOptions, userClient } from './user.ts'
export type * from './wire.ts'
