import { createSessions, type SessionsDeps } from '../src/sessions/sessions.ts'
import type { Store } from '../src/store/store.ts'

export const RULES = { reconnectMs: 60_000, maxSessionMs: 60_000_000 }
const MANY = 1_000_000_000
export const NO_LIMITS = { maxSessions: MANY, maxPending: MANY, maxEvents: MANY, maxEventBytes: MANY }
/** A callback for any user whom this process has confirmed, by an agent that may act in every session. */
export const ADMISSION = {
  livenessMs: 60 * 60_000,
  wrapUpMs: 0,
  caller: { id: 'tutor', scopes: ['sessions:any' as const] },
}

/**
 * The verbs of another process on the same store: one that commits and dies before its follow-up, so that LiveKit gets
 * no request.
 */
export function directSessions(store: Store, given: Partial<Pick<SessionsDeps, 'rules' | 'limits'>> = {}) {
  const background = { run: () => {}, idle: async () => {} }
  const livekit = new Proxy({} as SessionsDeps['livekit'], {
    get: (_, method) => () => Promise.reject(new Error(`LiveKit is asked: ${String(method)}`)),
  })
  const deps = {
    store: store.sessions,
    accounts: store.agents,
    clock: store.clock,
    rules: RULES,
    limits: NO_LIMITS,
    jobMetadata: 'client' as const,
  }
  return createSessions({ ...deps, livekit, background, ...given })
}

/** Progress without a guard and without an agent token, which may have expired. */
export async function reportDirectly({ store }: { store: Store }, sessionId: string, data: Record<string, unknown>) {
  const known = await store.sessions.load(sessionId)
  if (!known) throw new Error('There is no session')
  const report = { agentId: 'tutor', type: 'progress', data, key: null }
  return directSessions(store).report(known, report, ADMISSION)
}
