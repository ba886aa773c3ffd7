/** What an agent account may do; each `/agent/*` route asks for one. */
export const SCOPES = ['progress:write', 'context:read', 'session:end', 'rooms:join'] as const
export type Scope = (typeof SCOPES)[number]

/** What agent accounts do not allow; told to the operator. */
export class AgentError extends Error {
  readonly code: 'agent_name_invalid' | 'agent_exists' | 'agent_not_found'
  constructor(code: AgentError['code'], message: string) {
    super(message)
    this.name = 'AgentError'
    this.code = code
  }
}

const NAME = /^[a-z][a-z0-9_-]{1,62}$/

/**
 * An agent's name is its client_id, LiveKit identity and LiveKit agent_name. It may not look like a user's id, nor like
 * the identity `agent-<job>` that LiveKit gives to dispatched workers.
 * @throws AgentError `agent_name_invalid`
 */
export function checkAgentName(name: string): string {
  if (!NAME.test(name) || name.startsWith('user_') || name.startsWith('agent-')) {
    throw new AgentError(
      'agent_name_invalid',
      'A name is 2 to 63 of a-z, 0-9, _ and -, begins with a letter, and not with user_ or agent-.',
    )
  }
  return name
}

export const isScope = (value: string): value is Scope => (SCOPES as readonly string[]).includes(value)
