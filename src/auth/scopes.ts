/** What an agent account may do; each `/agent/*` route requires one. A team's own come from AGENT_SCOPES. */
export const SCOPES = ['progress:write', 'context:read', 'session:end', 'rooms:join'] as const
export type Scope = (typeof SCOPES)[number] | `${string}:${string}`
