import { decodeJwt } from 'jose'
import { until } from './e2e/processes.ts'
import type { JoinOptions, Participant } from './scenarios/stack.ts'
import type { Sfu } from './sfu.ts'

/** Joins the fake; what its own client would see and hear from then on. */
export function joinSfu(sfu: Sfu, token: string, { publish }: JoinOptions = {}): Participant {
  const secondLeg = publish === undefined ? {} : { identity: `${decodeJwt(token).sub}#${publish}` }
  const leg = sfu.join(token, secondLeg)
  const { sid, identity } = leg.participant
  let reason: string | undefined
  const whenDisconnected = new Promise<string>((resolve) => {
    sfu.onEvent(({ participant, disconnectReason }) => {
      if (participant?.sid !== sid || disconnectReason === undefined) return
      reason = disconnectReason
      resolve(disconnectReason)
    })
  })
  return {
    identity,
    sid,
    disconnected: () => reason,
    whenDisconnected,
    sees: (other) => until(`${identity} sees ${other}`, () => sfu.rooms.get(leg.room.name)?.participants.get(other)),
    leave: async () => sfu.leave(leg),
  }
}
