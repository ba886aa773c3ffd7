/** Who may name the account for a dispatch: `any` client, or `none` of them, so that only DEFAULT_AGENT does. */
export const SUMMONERS = ['any', 'none'] as const

export interface Agent {
  id: string
  /** SHA-256 of the secret, hex. */
  secretHash: string
  /** The secret, encrypted (agent/sealed-secrets.ts); null if an earlier version issued it. */
  sealedSecret: string | null
  /** The previous secret, valid until `oldSecretUntil` (milliseconds); null without one. */
  oldSecretHash: string | null
  oldSealedSecret: string | null
  oldSecretUntil: number | null
  /** RFC 6749 §3.3. */
  scopes: `${string}:${string}`[]
  /** Tokens carry it; a token of an older generation than the stored one is refused. */
  generation: number
  createdAt: number
  disabledAt: number | null
  summon: (typeof SUMMONERS)[number]
}

/** A secret as it is stored. */
export type StoredSecret = Pick<Agent, 'secretHash' | 'sealedSecret'>

/** What an operator chooses for an account. */
export type AgentRights = Pick<Agent, 'scopes' | 'summon'>

/** Agent accounts. Ids are never reused, so nothing is ever deleted. */
export interface AgentStore {
  /** False when the id is taken, even by a disabled agent. */
  insertAgent(agent: Agent): Promise<boolean>
  /** Inserts only if there is no agent yet; false otherwise. */
  insertFirstAgent(agent: Agent): Promise<boolean>
  findAgent(id: string): Promise<Agent | null>
  listAgents(): Promise<Agent[]>
  /** Replaces what is given; null for an unknown agent. */
  setRights(id: string, rights: Partial<AgentRights>): Promise<Agent | null>
  /** Null for an unknown agent. An agent that is already disabled keeps its `disabledAt`. */
  disableAgent(id: string, now: number): Promise<Agent | null>
  /** Null for an unknown agent. A disabled one gets the next generation: an attacker may still hold its tokens. */
  enableAgent(id: string): Promise<Agent | null>
  /** Sets the secret, drops any old one and raises the generation, in one write; null for an unknown agent. */
  replaceSecret(id: string, secret: StoredSecret): Promise<Agent | null>
  /** Sets a new secret and keeps the previous one valid until `oldUntil`, but none before that. */
  addSecret(id: string, secret: StoredSecret, oldUntil: number): Promise<Agent | null>
}

/** An agent as it is stored: its scopes space-separated, RFC 6749 §3.3. */
export interface AgentRow extends Omit<Agent, 'scopes'> {
  scopes: string
}

export const toAgent = (row: AgentRow): Agent => ({ ...row, scopes: row.scopes.split(' ').filter(isScope) })
const isScope = (value: string): value is `${string}:${string}` => value.includes(':')

export const toAgentRow = (agent: Agent): AgentRow => ({ ...agent, scopes: agent.scopes.join(' ') })
