/** What a team builds on: the service as it is, and a way to declare routes behind the same guard. */

export { z } from '@hono/zod-openapi'
export { type AgentCall, type AgentRoute, Pair } from './agent/agent-route.ts'
export { AppError } from './errors.ts'
export type { ErrorCode } from './http/problem-codes.ts'
export { type Service, type StartOptions, startService } from './start.ts'
