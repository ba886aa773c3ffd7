export interface Agent {
  id: string
  /** SHA-256 of the secret, hex. */
  secretHash: string
  /** The secret before it, valid until then (milliseconds); null without one. */
  oldSecretHash: string | null
  oldSecretUntil: number | null
  /** RFC 6749 §3.3. */
  scopes: `${string}:${string}`[]
  /** Tokens carry it; one of an older generation than the stored one is refused. */
  generation: number
  createdAt: number
  disabledAt: number | null
}

/** Agent accounts. Ids are never reused, so nothing is ever deleted. */
export interface AgentStore {
  /** False when the id is taken, by a disabled agent too. */
  insertAgent(agent: Agent): Promise<boolean>
  /** Inserts only while there is no agent at all; false otherwise. */
  insertFirstAgent(agent: Agent): Promise<boolean>
  findAgent(id: string): Promise<Agent | null>
  listAgents(): Promise<Agent[]>
  /** Null for an unknown agent. Disabling a disabled one keeps its first time. */
  disableAgent(id: string, now: number): Promise<Agent | null>
  /** A disabled one gets the next generation: what it was disabled for may still hold a token. Null for an unknown agent. */
  enableAgent(id: string): Promise<Agent | null>
  /** A new secret and the next generation, in one write, and no old secret; null for an unknown agent. */
  replaceSecret(id: string, secretHash: string): Promise<Agent | null>
  /** A new secret beside the one that was, which is valid until `oldUntil`; one still older is not. */
  addSecret(id: string, secretHash: string, oldUntil: number): Promise<Agent | null>
}
