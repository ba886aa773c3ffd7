import { createMiddleware } from 'hono/factory'
import { AppError } from '../errors.ts'
import { bearerRefusals, bearerToken } from '../http/bearer.ts'
import type { RateLimits } from '../http/rate-limit.ts'
import { createReadLimit } from '../http/reads.ts'
import type { AppEnv, Who } from '../http/router.ts'
import type { Agent, AgentStore } from '../store/agents.ts'
import type { Scope } from './scopes.ts'
import type { AccessTokens, VerifiedUserToken } from './tokens.ts'

export interface UserEnv extends AppEnv {
  Variables: AppEnv['Variables'] & { user: VerifiedUserToken }
}

export interface AgentEnv extends AppEnv {
  Variables: AppEnv['Variables'] & { agent: Agent }
}

/** What `userGuard` and `authenticateUser` refuse with. Verifying reads the signing keys from the store. */
export const userGuardRefusals = [...bearerRefusals, 'invalid_token', 'store_unavailable'] as const
/** What `agentGuard` and `authenticateAgent` refuse with. */
export const agentGuardRefusals = [...userGuardRefusals, 'insufficient_scope', 'agent_disabled'] as const

export const createUserReadLimit = ({ userReads }: Pick<RateLimits, 'userReads'>) =>
  createReadLimit<UserEnv>(userReads, (c) => c.var.user.userId)

/** The part of a request's context that records the caller for the log. */
export interface CallerContext {
  set(key: 'who', who: Who): void
}

/** Lets only a user's access token through, as `c.var.user`. */
export const userGuard = (tokens: AccessTokens) =>
  createMiddleware<UserEnv>(async function userGuard(c, next) {
    c.set('user', await authenticateUser(c, tokens, bearerToken(c)))
    await next()
  })

/** Lets only an agent's access token with that scope through, as `c.var.agent`; reads the account on every request. */
export const agentGuard = (tokens: AccessTokens, agents: AgentStore, scope: Scope) =>
  createMiddleware<AgentEnv>(async function agentGuard(c, next) {
    c.set('agent', await authenticateAgent(c, tokens, agents, bearerToken(c), scope))
    await next()
  })

/** @throws AppError `invalid_token` */
export async function authenticateUser(
  c: CallerContext,
  tokens: AccessTokens,
  token: string,
): Promise<VerifiedUserToken> {
  const user = await tokens.verifyUserToken(token)
  c.set('who', { user: user.userId })
  return user
}

/** The account, with the token's scopes that it has. @throws AppError `invalid_token`, `agent_disabled`, `insufficient_scope` */
export async function authenticateAgent(
  c: CallerContext,
  tokens: AccessTokens,
  agents: AgentStore,
  token: string,
  scope: Scope,
): Promise<Agent> {
  const claims = await tokens.verifyAgentToken(token)
  // Before the checks, so that the log names the agent they refuse.
  c.set('who', { agent: claims.agentId })
  const agent = await agents.findAgent(claims.agentId)
  if (!agent || agent.generation !== claims.generation) {
    throw new AppError('invalid_token', 'The agent’s earlier tokens were revoked: ask for a new one.')
  }
  if (agent.disabledAt !== null) throw new AppError('agent_disabled', 'This agent account is disabled.')
  // Both must allow it: the token as issued, and the account as it is now.
  const scopes = agent.scopes.filter((held) => claims.scopes.includes(held))
  if (!scopes.includes(scope)) throw new AppError('insufficient_scope', `This needs the scope ${scope}.`, { scope })
  return { ...agent, scopes }
}
