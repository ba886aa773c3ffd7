import type { Participant } from '../livekit/livekit.ts'
import type { Session } from '../store/sessions.ts'
import type { Answer } from './lifecycle.ts'

type Whose = Pick<Session, 'id' | 'userId'>
type Who = Pick<Participant, 'identity' | 'isStandard' | 'attributes'>

/**
 * Whether a participant of the session's room is this session's user. All must match: another session of the same user
 * has the same identity, and any join token can open a second leg `identity#x` with the same attributes.
 */
export const isUserOf = (session: Whose, participant: Who): boolean =>
  participant.isStandard && participant.identity === session.userId && participant.attributes.sessionId === session.id

/** What LiveKit's participant list for the room says about this session. */
export function answerFor(session: Whose, participants: readonly Participant[], askedAt: number): Answer {
  const ours = participants.filter((participant) => isUserOf(session, participant))
  const sids = (active: boolean) => ours.filter((p) => p.isActive === active).map((p) => p.sid)
  return { kind: 'answer', askedAt, present: sids(true), joining: sids(false) }
}
