import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import type { LiveKit, Participant } from '../livekit/livekit.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { Session, SessionStore } from '../store/sessions.ts'
import type { Dispatcher } from './dispatch.ts'
import { change } from './lifecycle.ts'
import { belongsTo } from './participants.ts'

interface RemovalDeps {
  store: SessionStore
  livekit: LiveKit
  dispatcher: Dispatcher
  clock: Clock
}

export interface Removal {
  /**
   * Removes an ended session's participants and its agent, and the room if nothing else needs it. Retries for a few
   * seconds while LiveKit lists a participant of the session; then, or if LiveKit does not answer, the reconciler does.
   * @throws AppError `livekit_unavailable`
   */
  remove(session: Session): Promise<void>
  /** One attempt at `remove`; true when LiveKit lists no participant of the session. */
  attempt(session: Session): Promise<boolean>
  /** Stores whether LiveKit lists no participant of the session (`isOut`). */
  markRemoved(session: Pick<Session, 'id'>, isOut: boolean): Promise<void>
}

const ATTEMPTS = 5
const FIRST_PAUSE_MS = 100

export function createRemoval({ store, livekit, dispatcher, clock }: RemovalDeps): Removal {
  const removing = createSingleFlight<void>()
  const attempting = createSingleFlight<boolean>()
  const attempt = (session: Session) => attempting(session.id, () => removeOnce(session))

  async function removeOnce(session: Session): Promise<boolean> {
    const participants = await livekit.listParticipants(session.room)
    const isShared = await hasOthers(session.room, participants)
    // Deleting the room also stops its agents' jobs.
    if (!isShared) await livekit.deleteRoom(session.room)
    else await removeFrom(session, participants)
    const isOut = (await livekit.listParticipants(session.room)).every(
      (participant) => !belongsTo(session, participant),
    )
    // Until LiveKit lists none, the session is neither pruned nor dropped from `listToRemove`.
    await markRemoved(session, isOut)
    return isOut
  }

  /**
   * Whether the room is still needed: by another session, or by a participant that belongs to none, such as a phone
   * caller, a recorder or a supervisor. Agents alone do not need it.
   */
  async function hasOthers(room: string, participants: Participant[]): Promise<boolean> {
    for (const participant of participants) {
      if (participant.isAgent) continue
      const { sessionId } = participant.attributes
      const session = sessionId === undefined ? null : await store.find(sessionId)
      if (session?.room !== room || !belongsTo(session, participant)) return true
    }
    return (await store.listUnfinished(room)).length > 0
  }

  async function removeFrom(session: Session, participants: Participant[]): Promise<void> {
    for (const { identity } of participants.filter((participant) => belongsTo(session, participant))) {
      // LiveKit removes by identity, which may by now belong to another session of the same user.
      const holder = await livekit.getParticipant(session.room, identity)
      if (!holder || !belongsTo(session, holder)) continue
      await livekit.removeParticipant(session.room, identity, session.endedAt ?? clock.now())
    }
    // An empty list may mean that the room is gone, and LiveKit does not answer for the dispatches of such a room.
    if (participants.length > 0) await dispatcher.stop(session)
  }

  const markRemoved = ({ id }: Pick<Session, 'id'>, isOut: boolean) =>
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
