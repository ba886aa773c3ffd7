import { AppError } from '../errors.ts'

/** What an agent account may do; each `/agent/*` route asks for one. */
export const SCOPES = ['progress:write', 'context:read', 'session:end', 'rooms:join'] as const
export type Scope = (typeof SCOPES)[number]

const NAME = /^[a-z][a-z0-9_-]{1,62}$/

/**
 * An agent's name is its client_id, LiveKit identity and LiveKit agent_name. It may not look like a user's id, nor like
 * the identity `agent-<job>` that LiveKit gives to dispatched workers.
 * @throws AppError `agent_name_invalid`
 */
export function checkAgentName(name: string): string {
  if (!NAME.test(name) || name.startsWith('user_') || name.startsWith('agent-')) {
    throw AppError.field(
      'agent_name_invalid',
      'name',
      'A name is 2 to 63 of a-z, 0-9, _ and -, begins with a letter, and not with user_ or agent-.',
    )
  }
  return name
}

export const isScope = (value: string): value is Scope => (SCOPES as readonly string[]).includes(value)
