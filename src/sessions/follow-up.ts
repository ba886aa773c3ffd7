import type { Background } from '../background.ts'
import type { Dispatcher } from './dispatch.ts'
import { openPresences } from './lifecycle.ts'
import type { Removal } from './removal.ts'
import type { Change } from './store.ts'

export interface FollowUpDeps {
  removal: Removal
  dispatcher: Dispatcher
  background: Background
}

/** Tells LiveKit what a committed change asks for, without anybody waiting for it. */
export type FollowUp = (change: Change) => void

export function followUp({ removal, dispatcher, background }: FollowUpDeps): FollowUp {
  return function followUp({ session, before, facts }) {
    if (session.status === 'ended') {
      // Ended by LiveKit's own "nobody": there is nobody to remove.
      const absent = session.endReason === 'left' || session.endReason === 'never_joined'
      if (before !== 'ended' && !absent) background.run('remove', () => removal.remove(session))
      return
    }
    const newest = openPresences(facts).sort((a, b) => (b.joinedAt ?? 0) - (a.joinedAt ?? 0))[0]
    if (newest && session.agentName !== null && session.dispatchedSid !== newest.sid) {
      background.run('dispatch', () => dispatcher.ensure(session, newest.sid))
    }
  }
}
