import type { Agent } from './agents.ts'

/** An agent as it is stored: its scopes space-separated, RFC 6749 §3.3. */
export interface AgentRow extends Omit<Agent, 'scopes'> {
  scopes: string
}

export const toAgent = (row: AgentRow): Agent => ({ ...row, scopes: row.scopes.split(' ').filter(isScope) })
const isScope = (value: string): value is `${string}:${string}` => value.includes(':')

export const toAgentRow = (agent: Agent): AgentRow => ({ ...agent, scopes: agent.scopes.join(' ') })
