/** Tells a session's listeners in this process that it has new events. */
export interface EventHints {
  /** An event was written; after a write that then failed it does no harm. */
  appended(sessionId: string): void
  /** Call this when such writes are durable. */
  notify(): void
  /** Returns a function that unsubscribes. */
  subscribe(sessionId: string, onAppended: () => void): () => void
}

export function createEventHints(): EventHints {
  const listeners = new Map<string, Set<() => void>>()
  let appended = new Set<string>()

  return {
    appended(sessionId) {
      if (listeners.has(sessionId)) appended.add(sessionId)
    },
    notify() {
      const told = appended
      appended = new Set()
      for (const sessionId of told) for (const onAppended of listeners.get(sessionId) ?? []) onAppended()
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
