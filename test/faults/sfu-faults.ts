import type { Sfu } from '../sfu.ts'
import type { SfuParticipant } from '../sfu-rooms.ts'

/** A session whose user is not in its room. */
export interface Absent {
  userId: string
  sessionId: string
  room: string
}

export interface Fault {
  /** Makes LiveKit behave so; the returned function makes it well again. */
  begin: (sfu: Sfu, absent: Absent[]) => () => void
  /** The allowed answers to a callback for a user who is not in the room. */
  answers: readonly string[]
}

const NOT_LIVE = '409 session_not_live'
const UNKNOWN = '503 liveness_unknown'

const silent = (mode: Sfu['mode']): Fault => ({
  begin(sfu) {
    sfu.mode = mode
    return () => {
      sfu.mode = 'ok'
    }
  },
  answers: [UNKNOWN],
})

/** Everything is answered, a second and a half late: within the time that LiveKit has. */
const slow: Fault = {
  begin(sfu) {
    let release = sfu.hold()
    const timer = setInterval(() => {
      const answer = release
      release = sfu.hold()
      answer()
    }, 1500)
    return () => {
      clearInterval(timer)
      release()
    }
  },
  answers: [NOT_LIVE, UNKNOWN],
}

/** LiveKit lists a participant in each room who is not the session's user. */
const lying = (who: (absent: Absent, others: Absent) => Partial<SfuParticipant> & { identity: string }): Fault => ({
  begin(sfu, absent) {
    const legs = absent.map((one, i) => {
      const other = absent[(i + 1) % absent.length] ?? one
      const { identity, ...given } = who(one, other)
      const leg = sfu.enter(one.room, { identity, ...given })
      // Under whatever name it is asked for, the same wrong participant is given.
      sfu.rooms.get(one.room)?.participants.set(one.userId, leg.participant)
      return one.room
    })
    return () => {
      for (const room of legs) sfu.rooms.delete(room)
    }
  },
  answers: [NOT_LIVE],
})

export const FAULTS: Record<string, Fault> = {
  'answers 500': silent('error500'),
  'resets connections': silent('reset'),
  'is a proxy’s 404 page': silent('html404'),
  hangs: silent('hang'),
  'answers after 1.5 s': slow,
  'lists strangers': lying(({ sessionId }) => ({ identity: 'user_stranger', attributes: { sessionId } })),
  'lists the attributes of another session': lying(({ userId }, other) => ({
    identity: userId,
    attributes: { sessionId: other.sessionId, userId },
  })),
  'lists no attributes': lying(({ userId }) => ({ identity: userId, attributes: {} })),
  'lists agents': lying(({ userId, sessionId }) => ({ identity: userId, attributes: { sessionId }, kind: 'AGENT' })),
  'lists who is joining': lying(({ userId, sessionId }) => ({
    identity: userId,
    attributes: { sessionId },
    state: 'JOINING',
  })),
  'lists a second leg': lying(({ userId, sessionId }) => ({ identity: `${userId}#2`, attributes: { sessionId } })),
}
