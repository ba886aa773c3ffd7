/** Tells who listens to a session that it has new events. */
export interface AppendHints {
  /** To be called inside the write that inserts an event. */
  appended(sessionId: string): void
  /** Returns how to stop listening. */
  subscribe(sessionId: string, onAppended: () => void): () => void
}

/** Within this process, which is the only one that writes to its SQLite file. */
export function appendHints(): AppendHints {
  const listeners = new Map<string, Set<() => void>>()
  let appended = new Set<string>()

  function tell(): void {
    const told = appended
    appended = new Set()
    for (const sessionId of told) for (const onAppended of listeners.get(sessionId) ?? []) onAppended()
  }

  return {
    appended(sessionId) {
      if (!listeners.has(sessionId)) return
      // A transaction is synchronous, so a microtask runs after its commit. After a rollback the hint is merely idle.
      if (appended.size === 0) queueMicrotask(tell)
      appended.add(sessionId)
    },
    subscribe(sessionId, onAppended) {
      const ofSession = listeners.get(sessionId) ?? new Set()
      listeners.set(sessionId, ofSession.add(onAppended))
      return () => {
        ofSession.delete(onAppended)
        if (ofSession.size === 0 && listeners.get(sessionId) === ofSession) listeners.delete(sessionId)
      }
    },
  }
}
