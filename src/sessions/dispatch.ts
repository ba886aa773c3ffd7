import type { LiveKit } from '../livekit/livekit.ts'
import { singleFlight } from '../single-flight.ts'
import type { Session, SessionStore } from './store.ts'

export interface DispatcherDeps {
  sessions: SessionStore
  livekit: LiveKit
}

export interface Dispatcher {
  /**
   * Makes sure that the room holds a dispatch which names this session, for the presence `sid`.
   * LiveKit reads a token's own dispatch only at the join that creates the room.
   * @throws AppError `livekit_unavailable`; the reconciler comes back to it.
   */
  ensure(session: Session, sid: string): Promise<void>
}

export function dispatcher({ sessions, livekit }: DispatcherDeps): Dispatcher {
  const once = singleFlight<void>()
  return {
    ensure: (session, sid) =>
      once(session.id, async () => {
        const { agentName, room } = session
        if (agentName === null) return
        const dispatches = await livekit.listDispatches(room)
        const exists = dispatches.some((d) => d.agentName === agentName && sessionIdOf(d.metadata) === session.id)
        if (!exists) await livekit.createDispatch(room, { agentName, metadata: jobMetadata(session) })
        await sessions.markDispatched(session.id, sid)
      }),
  }
}

/** What the agent's job carries: the pair, from us, and the client's own words under `data`, verbatim. */
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
