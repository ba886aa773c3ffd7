import type { Clock } from '../clock.ts'
import type { Dispatch, LiveKit } from '../livekit/livekit.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { Session, SessionStore } from '../store/sessions.ts'
import { change } from './lifecycle.ts'

interface DispatcherDeps {
  store: SessionStore
  livekit: LiveKit
  clock: Clock
}

export interface Dispatcher {
  /**
   * Ensures that the room has a dispatch that names this session, for the presence `sid`.
   * LiveKit reads the dispatch in a join token only at the join that creates the room.
   * @throws AppError `livekit_unavailable`; the reconciler retries.
   */
  ensure(session: Session, sid: string): Promise<void>
  /**
   * Recreates a dispatch that no worker has taken: LiveKit offers one only to the workers registered at that moment.
   * @returns whether it did. @throws AppError `livekit_unavailable`
   */
  renew(session: Session): Promise<boolean>
}

/** How long a worker may take to accept a job. */
const ACCEPTED_WITHIN_MS = 10_000

export function createDispatcher({ store, livekit, clock }: DispatcherDeps): Dispatcher {
  const ensuring = createSingleFlight<void>()
  const renewing = createSingleFlight<boolean>()

  const dispatchesOf = async ({ id, room, agentName }: Session): Promise<Dispatch[]> =>
    (await livekit.listDispatches(room)).filter((d) => d.agentName === agentName && sessionIdOf(d.metadata) === id)

  const isOverdue = ({ dispatchedAt }: Session) =>
    dispatchedAt !== null && clock.steady() - dispatchedAt > ACCEPTED_WITHIN_MS

  /** Compare-and-swap: true for exactly one caller, which then recreates the dispatch. */
  const claim = ({ id }: Session) =>
    store.change({ session: id }, ([known]) => {
      if (!known || known.facts.end || !isOverdue(known.session)) return { result: false }
      return { changed: [change(known, { dispatchedAt: clock.steady() })], result: true }
    })

  return {
    ensure: (session, sid) =>
      ensuring(session.id, async () => {
        const { agentName, room } = session
        if (agentName === null) return
        const exists = (await dispatchesOf(session)).length > 0
        if (!exists) await livekit.createDispatch(room, { agentName, metadata: jobMetadata(session) })
        await store.change({ session: session.id }, ([known]) => {
          const dispatched = { dispatchedSid: sid, dispatchedAt: clock.steady() }
          return { changed: known ? [change(known, dispatched)] : [], result: undefined }
        })
      }),
    renew: (session) =>
      renewing(session.id, async () => {
        const { agentName, room } = session
        if (agentName === null || !isOverdue(session)) return false
        const untaken = await dispatchesOf(session)
        if (untaken.some(({ jobs }) => jobs.length > 0)) return false
        if (!(await claim(session))) return false
        await livekit.createDispatch(room, { agentName, metadata: jobMetadata(session) })
        for (const dispatch of untaken) await livekit.deleteDispatch(room, dispatch.id)
        return true
      }),
  }
}

/** The job's metadata: the service sets the pair; the client's string goes verbatim under `data`. */
export function jobMetadata({ id, userId, room, agentData }: Pick<Session, 'id' | 'userId' | 'room' | 'agentData'>) {
  return JSON.stringify({ userId, sessionId: id, room, ...(agentData === null ? {} : { data: agentData }) })
}

function sessionIdOf(metadata: string): unknown {
  try {
    return (JSON.parse(metadata) as { sessionId?: unknown } | null)?.sessionId
  } catch {
    return undefined
  }
}
