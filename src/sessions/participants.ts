import type { Participant } from '../livekit/livekit.ts'
import type { Session } from '../store/sessions.ts'
import type { Answer } from './lifecycle.ts'

type Whose = Pick<Session, 'id' | 'userId' | 'phoneSid'>
type Who = Pick<Participant, 'sid' | 'identity' | 'isStandard' | 'isSip' | 'attributes'>

/**
 * Whether a participant of the session's room is this session's user. All must match: another session of the same user
 * has the same identity, and any join token can open a second leg `identity#x` with the same attributes.
 */
export const isUserOf = (session: Whose, participant: Who): boolean =>
  participant.identity === session.userId &&
  (participant.isSip
    ? participant.sid === session.phoneSid
    : participant.isStandard && participant.attributes.sessionId === session.id)

/**
 * Whether a participant must leave with the session: any that names it in a minted attribute, a second leg of its user
 * included. Callers can choose the attributes of a SIP participant, so of those only the session's own phone.
 */
export const belongsTo = (session: Whose & Pick<Session, 'callingSince'>, participant: Who): boolean => {
  const isNamed = participant.attributes.sessionId === session.id
  if (!participant.isSip) return isNamed
  // If LiveKit's answer to a call was lost, its sid is unknown: what was asked for then identifies the phone.
  const isLost = session.callingSince !== null && participant.identity === session.userId && isNamed
  return isLost || participant.sid === session.phoneSid
}

/** What LiveKit's participant list for the room says about this session. */
export function answerFor(session: Whose, participants: readonly Participant[], askedAt: number): Answer {
  const ofUser = participants.filter((participant) => isUserOf(session, participant))
  const sids = (active: boolean) => ofUser.filter((p) => p.isActive === active).map((p) => p.sid)
  return { kind: 'answer', askedAt, present: sids(true), joining: sids(false) }
}
