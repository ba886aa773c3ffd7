import { ConnectionError, ConnectionErrorReason, DisconnectReason } from 'livekit-client'
import { ProblemError, type Session } from '#client'

/** What a failure means to the person in front of the page, and what helps. */
export function wordsFor(error: unknown, livekitUrl = 'its address'): string {
  if (error instanceof ProblemError) return wordsForProblem(error)
  if (error instanceof ConnectionError) {
    return error.reason === ConnectionErrorReason.NotAllowed
      ? 'LiveKit refused the join token. The service and LiveKit need the same key pair.'
      : `LiveKit cannot be reached at ${livekitUrl}. Is livekit-server running? Start it and try again.`
  }
  const name = error instanceof Error ? error.name : ''
  if (name === 'NotAllowedError' || name === 'SecurityError') {
    return 'The microphone is blocked. Allow it for this page in your browser’s address bar, then start the call again.'
  }
  if (name === 'NotFoundError') return 'No microphone was found. Connect one, then start the call again.'
  if (name === 'NotReadableError') return 'The microphone is in use elsewhere. Free it, then start the call again.'
  return `Something went wrong: ${error instanceof Error ? error.message : String(error)}`
}

function wordsForProblem({ code, detail, errors }: ProblemError): string {
  switch (code) {
    case 'unreachable':
      return 'The service does not answer. Is it running, and are you online?'
    case 'not_signed_in':
    case 'invalid_refresh_token':
      return 'You were signed out. Please sign in again.'
    case 'validation_failed':
      return errors.map(({ field, message }) => `${field}: ${message}`).join('; ')
    default:
      return detail
  }
}

export const isSignedOut = (error: unknown): boolean =>
  error instanceof ProblemError && (error.code === 'not_signed_in' || error.code === 'invalid_refresh_token')

/** How a session came to its end, as the service tells it. */
export function wordsForEnd(reason: Session['endReason']): string {
  switch (reason) {
    case 'user':
      return 'The call has ended: you hung up. From here on the agent is refused.'
    case 'agent':
      return 'The call has ended: the agent ended it.'
    case 'limit':
      return 'The call has ended: it was as long as a call may be.'
    case 'left':
      return 'The call has ended: you were away for too long.'
    case 'never_joined':
      return 'The call has ended before it began: you never joined.'
    case 'signed_out':
      return 'The call has ended: you signed out.'
    case 'superseded':
      return 'The call has ended: newer ones took its place.'
    default:
      return 'The call has ended.'
  }
}

/** Why LiveKit closed the connection, where that is not the session's own end. */
export function wordsForDisconnect(reason: DisconnectReason | undefined): string {
  return reason === DisconnectReason.DUPLICATE_IDENTITY
    ? 'This call is open in another tab. Start the call here to take it back.'
    : 'The connection to LiveKit is lost. Start the call again to come back into it.'
}

const STATUS = {
  pending: 'nobody has joined yet',
  live: 'you are in the room',
  disconnected: 'you are away, and may come back',
  ended: 'nothing can be done in your name any more',
} as const

/** A status as the server saw it begin. */
export function wordsForStatus(data: unknown): string {
  const { status } = data as { status: Session['status'] }
  return `Session ${status}: ${STATUS[status] ?? ''}`
}

const REFUSAL: Record<string, { status: number; why: string }> = {
  session_not_live: { status: 409, why: 'You are not in the room now.' },
  session_ended: { status: 409, why: 'The session has ended.' },
  not_sessions_agent: { status: 403, why: 'Another agent was dispatched to this session.' },
  session_mismatch: { status: 403, why: 'The session is another user’s.' },
  liveness_unknown: { status: 503, why: 'LiveKit could not say whether you are in the room.' },
}

/** A decision of the guard as the audit trail has it, equal ones together. */
export function wordsForOutcome(route: string, outcome: string, count: number) {
  const times = count > 1 ? `, ${count} times` : ''
  if (outcome === 'allowed' || outcome === 'replayed') {
    const text = route === 'GET /agent/context' ? 'Asked who you are and what happened so far' : route
    return { text: `${text}${times}`, verdict: { accepted: true, text: '200 accepted' } }
  }
  const { status, why } = REFUSAL[outcome] ?? {}
  return {
    text: `The agent called by itself${times}. ${why ?? route}`,
    code: outcome,
    verdict: { accepted: false, text: `${status ?? ''} refused`.trim() },
  }
}
