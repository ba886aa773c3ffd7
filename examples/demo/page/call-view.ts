import type { Session } from '#client'
import { page, setText } from './elements.ts'
import { wordsForEnd } from './words.ts'

export interface CallState {
  connection: 'off' | 'microphone' | 'connecting' | 'connected' | 'reconnecting' | 'ending'
  /** As the server sees it; absent before the first call. */
  session: Pick<Session, 'id' | 'userId' | 'status' | 'endReason'> | undefined
  /** What the join token says; absent after a reload that did not need a new one. */
  claims: object | undefined
  agent: 'none' | 'waiting' | 'missing' | 'here' | 'left'
  /** What the agent says of itself, such as `listening`. */
  agentState: string | undefined
  isMuted: boolean
  /** The browser wants a click before it plays the agent's voice. */
  isSoundBlocked: boolean
}

export const NO_CALL: CallState = {
  connection: 'off',
  session: undefined,
  claims: undefined,
  agent: 'none',
  agentState: undefined,
  isMuted: false,
  isSoundBlocked: false,
}

const CONNECTION = {
  off: 'not connected',
  microphone: 'waiting for the microphone',
  connecting: 'connecting',
  connected: 'connected',
  reconnecting: 'interrupted, coming back',
  ending: 'hanging up',
} as const

const AGENT = {
  none: 'not in a call',
  waiting: 'on its way',
  missing: 'none has come',
  here: 'in the call',
  left: 'has left',
} as const

const START = {
  none: 'Start call',
  pending: 'Try again',
  live: 'Rejoin call',
  disconnected: 'Rejoin call',
  ended: 'Start a new call',
} as const

/** The call's half of the page as it follows from the state. */
export function showCall(state: CallState): void {
  const { connection, session, claims, agent, agentState, isMuted, isSoundBlocked } = state
  const isOff = connection === 'off'
  const wasJoined = session?.status === 'live' || session?.status === 'disconnected'

  setText(page.summary, summary(state))
  setState(page.connection, CONNECTION[connection], connection === 'connected')
  setState(page.status, session?.status ?? 'none yet', session?.status === 'live')
  setState(page.agent, agent === 'here' && agentState ? `in the call, ${agentState}` : AGENT[agent], agent === 'here')

  page.start.hidden = !isOff
  setText(page.start, START[session?.status ?? 'none'])
  page.mute.hidden = connection !== 'connected' && connection !== 'reconnecting'
  page.mute.setAttribute('aria-pressed', String(isMuted))
  page.end.hidden = isOff && !wasJoined
  page.end.disabled = connection === 'ending'
  page.sound.hidden = !isSoundBlocked || connection !== 'connected'

  page.attempts.hidden = session === undefined
  page.pair.hidden = session === undefined
  setText(page.userId, session?.userId ?? '')
  setText(page.sessionId, session?.id ?? '')
  page.claimsRow.hidden = claims === undefined
  setText(page.claims, JSON.stringify(claims, null, 2) ?? '')
}

function setState(target: HTMLElement, text: string, isOn: boolean): void {
  setText(target, text)
  target.dataset.on = String(isOn)
}

function summary({ connection, session, isMuted }: CallState): string {
  switch (connection) {
    case 'microphone':
      return 'Allow the microphone to go on.'
    case 'connecting':
      return 'Connecting…'
    case 'connected':
      return isMuted ? 'You are in the call, muted.' : 'You are in the call: speak.'
    case 'reconnecting':
      return 'The connection is interrupted. Coming back…'
    case 'ending':
      return 'Hanging up…'
    case 'off':
      if (!session) return 'Start the call, allow the microphone, and speak.'
      if (session.status === 'ended') return wordsForEnd(session.endReason)
      return session.status === 'pending'
        ? 'The call did not start: you have not joined it yet.'
        : 'You are not connected; your call is still open.'
  }
}
