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
 * Whether a participant has to leave with the session: one that names it in an attribute, as minted, which a second leg
 * of its user does too. Callers can choose the attributes of a SIP participant, so of those only the session's own phone.
 */
export const belongsTo = (session: Whose & Pick<Session, 'callingSince'>, participant: Who): boolean => {
  const isNamed = participant.attributes.sessionId === session.id
  if (!participant.isSip) return isNamed
  // LiveKit may have placed a call whose sid never arrived: that phone is known by what was asked for, to hang it up.
  const isLost = session.callingSince !== null && participant.identity === session.userId && isNamed
  return isLost || participant.sid === session.phoneSid
}

/** What LiveKit's participant list for the room says about this session. */
export function answerFor(session: Whose, participants: readonly Participant[], askedAt: number): Answer {
  const ours = participants.filter((participant) => isUserOf(session, participant))
  const sids = (active: boolean) => ours.filter((p) => p.isActive === active).map((p) => p.sid)
  return { kind: 'answer', askedAt, present: sids(true), joining: sids(false) }
}
