import type { LocalTrack, Room } from 'livekit-client'
import { ProblemError, type Session, type SessionEvent, type UserClient } from '#client'
import { type Microphone, openMicrophone } from './audio.ts'
import { type CallState, NO_CALL, showCall } from './call-view.ts'
import { notify, page } from './elements.ts'
import { createGuardView } from './guard.ts'
import { clearLog, showEvent } from './log.ts'
import { createRoom } from './room.ts'
import { kept } from './tab.ts'
import { isSignedOut, wordsFor, wordsForDisconnect } from './words.ts'

/** A worker's first job starts a process; after this long none is likely to come. */
const AGENT_MS = 12_000
/** A report that is older may be of an agent that has left. */
const RECENT_MS = 5_000
const NO_AGENT =
  'No agent has come into the call. Is a worker running, and named by DEFAULT_AGENT or by ?agent= in this page’s address?'

export interface CallDeps {
  client: UserClient
  /** The service's. */
  url: string
  /** The agent to ask for; undefined leaves it to the service. */
  agentName: string | undefined
  onSignedOut: () => void
}

/** One user's calls, one at a time: who is connected, and what happens in the session. */
export function createCall({ client, url, agentName, onSignedOut }: CallDeps) {
  const guard = createGuardView(client, url)
  const keptSession = kept('session')
  const keptMute = kept('muted')
  let state: CallState = { ...NO_CALL, isMuted: keptMute.get() !== null }
  let room: Room | undefined
  let microphone: Microphone | undefined
  let leaving = new AbortController()
  let following: { id: string; stop: AbortController } | undefined
  let agentTimer: ReturnType<typeof setTimeout> | undefined

  function change(changed: Partial<CallState>): void {
    state = { ...state, ...changed }
    showCall(state)
  }

  function fail(error: unknown, livekitUrl?: string): void {
    if (isSignedOut(error)) onSignedOut()
    notify(wordsFor(error, livekitUrl))
  }

  /** Out of the room and off the microphone; the session is as it was. */
  /** Resolves when LiveKit has been told. */
  async function hangUp(connection: 'off' | 'ending' = 'off'): Promise<void> {
    leaving.abort()
    clearTimeout(agentTimer)
    microphone?.close()
    microphone = undefined
    const left = room?.disconnect()
    room = undefined
    change({ connection, agent: 'none', agentState: undefined })
    await left
  }

  function onAgent(isHere: boolean, agentState = state.agentState): void {
    clearTimeout(agentTimer)
    if (state.agent === 'missing' && isHere) notify()
    const wasHere = state.agent === 'here' || state.agent === 'left'
    change({ agent: isHere ? 'here' : wasHere ? 'left' : 'waiting', agentState })
    if (state.agent !== 'waiting') return
    agentTimer = setTimeout(() => {
      change({ agent: 'missing' })
      notify(NO_AGENT)
    }, AGENT_MS)
  }

  /** Into the session that is still open, or into a new one. */
  async function start(): Promise<void> {
    notify()
    leaving = new AbortController()
    const { signal } = leaving
    const openId = state.session?.status === 'ended' ? undefined : state.session?.id
    let livekitUrl: string | undefined
    change({ connection: 'microphone' })
    try {
      const opened = await openMicrophone()
      if (signal.aborted) return opened.close()
      microphone = opened
      await opened.setMuted(state.isMuted)
      change({ connection: 'connecting' })
      const join = await client.joinToken({
        ...(openId === undefined ? {} : { session_id: openId }),
        ...(agentName === undefined ? {} : { room_config: { agents: [{ agent_name: agentName }] } }),
      })
      const id = join.session_id
      if (id === undefined) throw new Error('The service minted a token without a session.')
      livekitUrl = join.server_url
      if (id !== state.session?.id) change({ session: { id, userId: join.participant_identity, status: 'pending' } })
      change({ claims: claimsOf(join.participant_token) })
      keptSession.set(id)
      if (following?.id !== id) void follow(id)
      signal.throwIfAborted()

      const joined = createRoom({
        onConnection: (connection) => change({ connection }),
        onAgent,
        onSound: (isSoundBlocked) => change({ isSoundBlocked }),
        onLost(reason) {
          if (signal.aborted || state.connection === 'connecting') return
          void hangUp()
          if (state.session?.status !== 'ended') notify(wordsForDisconnect(reason))
        },
      })
      room = joined
      await joined.connect(join.server_url, join.participant_token)
      signal.throwIfAborted()
      await joined.localParticipant.publishTrack(publishable(opened))
      change({ connection: 'connected' })
      page.callTitle.focus()
    } catch (error) {
      if (signal.aborted) return
      void hangUp()
      // It ended unnoticed: the next start begins a new session.
      if (error instanceof ProblemError && error.code === 'session_ended') await restore()
      else fail(error, livekitUrl)
    }
  }

  /** Shows what happens in the session, from its beginning to its end. */
  async function follow(id: string): Promise<void> {
    following?.stop.abort()
    const stop = new AbortController()
    following = { id, stop }
    clearLog()
    void guard.watch(id, () => state.session?.status === 'ended', stop.signal)
    try {
      for await (const event of client.events(id, { signal: stop.signal })) {
        showEvent(event)
        if (event.type === 'session.status') onStatus(event)
        else onReport(event)
      }
    } catch (error) {
      if (stop.signal.aborted) return
      following = undefined
      fail(error)
    }
  }

  /** An agent at work is there, though LiveKit shows it only once its own media is up. */
  function onReport({ createdAt }: SessionEvent): void {
    const isAwaited = state.agent === 'waiting' || state.agent === 'missing'
    if (isAwaited && Date.now() - Date.parse(createdAt) < RECENT_MS) onAgent(true)
  }

  function onStatus({ data }: SessionEvent): void {
    if (!state.session) return
    const { status, reason } = data as { status: Session['status']; reason?: Session['endReason'] }
    if (status === 'ended') ended({ ...state.session, status, endReason: reason })
    else change({ session: { ...state.session, status } })
  }

  function ended(session: NonNullable<CallState['session']>): void {
    const isNews = state.session?.status !== 'ended'
    change({ session })
    void hangUp()
    if (isNews) page.callTitle.focus()
  }

  async function end(): Promise<void> {
    const id = state.session?.id
    try {
      // Before the service removes the user: then LiveKit would cut the connection, and livekit-client call that an error.
      await hangUp('ending')
      if (id !== undefined) ended(await client.sessions.end(id))
    } catch (error) {
      fail(error)
    } finally {
      void hangUp()
    }
  }

  /** After a reload: back into the session that this tab was in, if it has not ended. */
  async function restore(): Promise<void> {
    const id = keptSession.get()
    if (id === null) return
    try {
      const session = await client.sessions.get(id)
      change({ session })
      if (following?.id !== id) void follow(id)
      if (session.status !== 'ended') await start()
    } catch (error) {
      if (!(error instanceof ProblemError && error.code === 'session_not_found')) return fail(error)
      keptSession.set(null)
    }
  }

  /** Resets the state for the next user of this tab. */
  function forget(): void {
    void hangUp()
    following?.stop.abort()
    following = undefined
    keptSession.set(null)
    keptMute.set(null)
    clearLog()
    change(NO_CALL)
  }

  async function toggleMute(): Promise<void> {
    const isMuted = !state.isMuted
    await microphone?.setMuted(isMuted)
    keptMute.set(isMuted ? 'yes' : null)
    change({ isMuted })
  }

  async function attempt(isForOther: boolean): Promise<void> {
    if (!state.session) return
    await guard.attempt(state.session, isForOther).catch(fail)
  }

  page.start.addEventListener('click', () => void start())
  page.end.addEventListener('click', () => void end())
  page.mute.addEventListener('click', () => void toggleMute().catch(fail))
  page.sound.addEventListener('click', () => void room?.startAudio())
  page.tryNow.addEventListener('click', () => void attempt(false))
  page.tryOther.addEventListener('click', () => void attempt(true))
  showCall(state)

  return {
    restore,
    forget,
    /** Ends what is open, before the user signs out. */
    endIfOpen: async () => {
      if (state.session && state.session.status !== 'ended') await end()
    },
  }
}

/** What the token says, for people to read; LiveKit is who checks it. */
function claimsOf(token: string): object {
  const [, payload = ''] = token.split('.')
  const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (byte) => byte.charCodeAt(0))
  return JSON.parse(new TextDecoder().decode(bytes)) as object
}

/** livekit-client is typed without exactOptionalPropertyTypes. */
const publishable = ({ track }: Microphone) => track as LocalTrack
