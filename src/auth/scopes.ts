/** What a new agent account may do, unless its scopes are chosen; each `/agent/*` route requires one. */
export const DEFAULT_SCOPES = ['progress:write', 'context:read', 'session:end'] as const
/**
 * A team's own come from AGENT_SCOPES. `sessions:any` allows acting in sessions that another agent was dispatched to,
 * `calls:place` to call users on the phone.
 */
export const SCOPES = [...DEFAULT_SCOPES, 'rooms:join', 'sessions:any', 'calls:place'] as const
export type Scope = `${string}:${string}`
