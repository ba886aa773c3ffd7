import { RoomAudioRenderer, SessionProvider, useAgent, useSession } from '@livekit/components-react'
import { type SessionEvent, userClient } from 'behalf-client'
import { TokenSource } from 'livekit-client'
import { useEffect, useState } from 'react'

const behalf = userClient({ url: 'http://localhost:8008' })
const tokens = behalf.tokenSource(TokenSource)

/** useSession fetches a join token as soon as it is mounted, so sign in before that. */
export default function App() {
  const [isSignedIn, setSignedIn] = useState(false)
  const signIn = () => behalf.guest().then(() => setSignedIn(true)) // or login({ email, password })
  return isSignedIn ? (
    <Call />
  ) : (
    <button type="button" onClick={signIn}>
      Continue as guest
    </button>
  )
}

function Call() {
  const session = useSession(tokens, { agentName: 'dev-agent' }) // the account that the first `npm start` created
  const agent = useAgent(session)
  const { isConnected, room } = session
  const { sessionId } = room.localParticipant.attributes
  const events = useEvents(isConnected ? sessionId : undefined)
  const hangUp = async () => {
    await session.end()
    if (sessionId) await behalf.sessions.end(sessionId) // at once; without it, after RECONNECT_SECONDS
  }
  return (
    <SessionProvider session={session}>
      <RoomAudioRenderer />
      {isConnected ? (
        <button type="button" onClick={hangUp}>
          Hang up
        </button>
      ) : (
        <button type="button" onClick={() => session.start({ tracks: { microphone: { enabled: true } } })}>
          Call
        </button>
      )}
      <p>Agent: {agent.state}</p>
      <ol>
        {events.map(({ seq, data }) => (
          <li key={seq}>{JSON.stringify(data)}</li>
        ))}
      </ol>
    </SessionProvider>
  )
}

/** What happens in the session, as it happens: its status, and what the agent reports. */
function useEvents(sessionId: string | undefined) {
  const [events, setEvents] = useState<SessionEvent[]>([])
  useEffect(() => {
    if (!sessionId) return
    setEvents([])
    const stop = new AbortController()
    const follow = async () => {
      for await (const event of behalf.events(sessionId, { signal: stop.signal })) setEvents((all) => [...all, event])
    }
    follow().catch((error) => stop.signal.aborted || console.error(error))
    return () => stop.abort()
  }, [sessionId])
  return events
}
