import type { Background } from '../background.ts'
import type { Dispatcher } from './dispatch.ts'
import { openPresences } from './lifecycle.ts'
import type { Removal } from './removal.ts'
import type { Change, SessionStore } from './store.ts'

export interface FollowUpDeps {
  sessions: SessionStore
  removal: Removal
  dispatcher: Dispatcher
  background: Background
  /** Live ones of one user. */
  maxSessions: number
}

/** Does what a committed change asks for, in LiveKit mostly, without anybody waiting for it. */
export type FollowUp = (change: Change) => void

export function followUp({ sessions, removal, dispatcher, background, maxSessions }: FollowUpDeps): FollowUp {
  return function followUp({ session, before, facts }) {
    if (session.status === 'ended') {
      // Ended by LiveKit's own "nobody": there is nobody to remove.
      const absent = session.endReason === 'left' || session.endReason === 'never_joined'
      if (before !== 'ended' && !absent) background.run('remove', () => removal.remove(session))
      return
    }
    if (session.status === 'live' && before !== 'live') {
      background.run('limit', async () => {
        const ended = await sessions.endOverLimit(session, maxSessions)
        ended.forEach(followUp)
      })
    }
    const newest = openPresences(facts).sort((a, b) => (b.joinedAt ?? 0) - (a.joinedAt ?? 0))[0]
    if (newest && session.agentName !== null && session.dispatchedSid !== newest.sid) {
      background.run('dispatch', () => dispatcher.ensure(session, newest.sid))
    }
  }
}
