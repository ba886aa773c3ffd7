import { setTimeout as delay } from 'node:timers/promises'
import type { LiveKit } from '../livekit/livekit.ts'
import { singleFlight } from '../single-flight.ts'
import type { Session, SessionStore } from './store.ts'

export interface RemovalDeps {
  sessions: SessionStore
  livekit: LiveKit
}

export interface Removal {
  /**
   * Removes an ended session's participants from LiveKit until LiveKit lists none, or for a few seconds: the reconciler
   * comes back to those who are still there, and to what could not be asked.
   * @throws AppError `livekit_unavailable`
   */
  remove(session: Session): Promise<void>
  /** The same, tried once: whether nobody is left. */
  attempt(session: Session): Promise<boolean>
}

const ATTEMPTS = 5
const FIRST_PAUSE_MS = 100

export function removal({ sessions, livekit }: RemovalDeps): Removal {
  const removing = singleFlight<void>()
  const attempting = singleFlight<boolean>()
  const attempt = (session: Session) => attempting(session.id, () => removeOnce(session))

  async function removeOnce(session: Session): Promise<boolean> {
    const unfinished = await sessions.listUnfinished(session.room)
    // Nobody of ours is left to talk to: deleting the room also stops the agent's job.
    if (unfinished.length === 0) await livekit.deleteRoom(session.room)
    else await removeParticipants(session)
    const isOut = (await participantsOf(session)).length === 0
    // What is not out is kept, and listed, for as long as it takes.
    await sessions.markRemoved(session.id, isOut)
    return isOut
  }

  async function participantsOf(session: Session) {
    const participants = await livekit.listParticipants(session.room)
    return participants.filter(({ attributes }) => attributes.sessionId === session.id)
  }

  async function removeParticipants(session: Session): Promise<void> {
    for (const { identity } of await participantsOf(session)) {
      // LiveKit removes by identity, which another session of the same user may hold by now.
      const holder = await livekit.getParticipant(session.room, identity)
      if (holder?.attributes.sessionId === session.id) await livekit.removeParticipant(session.room, identity)
    }
  }

  return {
    attempt,
    remove: (session) =>
      removing(session.id, async () => {
        for (let i = 0; i < ATTEMPTS; i++) {
          if (await attempt(session)) return
          await delay(FIRST_PAUSE_MS * 2 ** i)
        }
      }),
  }
}
