/** Tells a session's listeners that it has new events. */
export interface AppendHints {
  /** Call this inside the write that inserts an event. */
  appended(sessionId: string): void
  /** Returns a function that unsubscribes. */
  subscribe(sessionId: string, onAppended: () => void): () => void
}

/** Works within this process, the only one that writes events to its SQLite file. */
export function appendHints(): AppendHints {
  const listeners = new Map<string, Set<() => void>>()
  let appended = new Set<string>()

  function notify(): void {
    const told = appended
    appended = new Set()
    for (const sessionId of told) for (const onAppended of listeners.get(sessionId) ?? []) onAppended()
  }

  return {
    appended(sessionId) {
      if (!listeners.has(sessionId)) return
      // A transaction is synchronous, so a microtask runs after its commit. After a rollback the hint is harmless.
      if (appended.size === 0) queueMicrotask(notify)
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
