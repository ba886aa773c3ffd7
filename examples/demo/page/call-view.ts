import type { Session } from '#client'
import { page, setText } from './elements.ts'
import { wordsForEnd } from './words.ts'

export interface CallState {
  connection: 'off' | 'microphone' | 'connecting' | 'connected' | 'reconnecting' | 'ending'
  /** As the server sees it; absent before the first call. */
  session: Pick<Session, 'id' | 'status' | 'endReason'> | undefined
  agent: 'none' | 'waiting' | 'missing' | 'here' | 'left'
  isMuted: boolean
  /** The browser wants a click before it plays the agent's voice. */
  isSoundBlocked: boolean
}

export const NO_CALL: CallState = {
  connection: 'off',
  session: undefined,
  agent: 'none',
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

/** The call's half of the page as it follows from the state. */
export function showCall(state: CallState): void {
  const { connection, session, agent, isMuted, isSoundBlocked } = state
  const isOff = connection === 'off'
  const isOpen = session !== undefined && session.status !== 'ended'

  setText(page.summary, summary(state))
  setState(page.connection, CONNECTION[connection], connection === 'connected')
  setState(page.status, session?.status ?? 'none yet', session?.status === 'live')
  setState(page.agent, AGENT[agent], agent === 'here')

  page.start.hidden = !isOff
  setText(page.start, isOpen ? 'Rejoin call' : session ? 'Start a new call' : 'Start call')
  page.mute.hidden = connection !== 'connected' && connection !== 'reconnecting'
  page.mute.setAttribute('aria-pressed', String(isMuted))
  page.end.hidden = isOff && !isOpen
  page.end.disabled = connection === 'ending'
  page.sound.hidden = !isSoundBlocked || connection !== 'connected'
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
      return session.status === 'ended'
        ? wordsForEnd(session.endReason)
        : 'You are not connected; your call is still open.'
  }
}
