import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import type { LiveKit } from '../livekit/livekit.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { Session, SessionStore } from '../store/sessions.ts'
import { change } from './lifecycle.ts'

interface RemovalDeps {
  store: SessionStore
  livekit: LiveKit
  clock: Clock
}

export interface Removal {
  /**
   * Removes an ended session's participants until LiveKit lists none, or for a few seconds: the reconciler retries when
   * some are still there or LiveKit did not answer.
   * @throws AppError `livekit_unavailable`
   */
  remove(session: Session): Promise<void>
  /** One attempt at `remove`; true when LiveKit lists no participant of the session. */
  attempt(session: Session): Promise<boolean>
  /** Stores whether LiveKit lists no participant of the session (`isOut`). */
  markRemoved(session: Session, isOut: boolean): Promise<void>
}

const ATTEMPTS = 5
const FIRST_PAUSE_MS = 100

export function createRemoval({ store, livekit, clock }: RemovalDeps): Removal {
  const removing = createSingleFlight<void>()
  const attempting = createSingleFlight<boolean>()
  const attempt = (session: Session) => attempting(session.id, () => removeOnce(session))

  async function removeOnce(session: Session): Promise<boolean> {
    const unfinished = await store.listUnfinished(session.room)
    // No unfinished session remains in the room: deleting it also stops the agent's job.
    if (unfinished.length === 0) await livekit.deleteRoom(session.room)
    else await removeParticipants(session)
    const isOut = (await participantsOf(session)).length === 0
    // Until LiveKit lists none, the session is neither pruned nor dropped from `listToRemove`.
    await markRemoved(session, isOut)
    return isOut
  }

  async function participantsOf(session: Session) {
    const participants = await livekit.listParticipants(session.room)
    return participants.filter(({ attributes }) => attributes.sessionId === session.id)
  }

  async function removeParticipants(session: Session): Promise<void> {
    for (const { identity } of await participantsOf(session)) {
      // LiveKit removes by identity, which may by now belong to another session of the same user.
      const holder = await livekit.getParticipant(session.room, identity)
      if (holder?.attributes.sessionId === session.id) await livekit.removeParticipant(session.room, identity)
    }
  }

  const markRemoved = ({ id }: Session, isOut: boolean) =>
    store.change({ session: id }, ([known]) => {
      const removedAt = isOut ? clock.now() : null
      return { changed: known ? [change(known, { removedAt })] : [], result: undefined }
    })

  return {
    attempt,
    markRemoved,
    remove: (session) =>
      removing(session.id, async () => {
        for (let i = 0; !(await attempt(session)) && i < ATTEMPTS - 1; i++) await delay(FIRST_PAUSE_MS * 2 ** i)
      }),
  }
}
