import { type Sfu, webhookEvent } from '../sfu.ts'
import type { Leg, SfuParticipant } from '../sfu-rooms.ts'
import type { Fate } from './history.ts'

const key = (leg: Leg) => `${leg.room.sid} ${leg.participant.sid}`

/**
 * Looks at the fake SFU after everything that happens: keeps when each session's user was there last, and sends LiveKit's
 * webhooks into a network that loses and repeats them and delivers in any order.
 */
export function network(sfu: Sfu, now: () => number, fates: readonly Fate[]) {
  let known = new Map<string, Leg>()
  let rooms = new Map<string, string>()
  const lastThere = new Map<string, number>()
  const pool: Webhook[] = []
  let sent = 0

  const legs = (): Leg[] =>
    [...sfu.rooms.values()].flatMap(({ sid, name, participants }) =>
      [...participants.values()].map((participant) => ({ room: { sid, name }, participant })),
    )

  function send(event: string, leg: Pick<Leg, 'room'> & Partial<Leg>): void {
    const fate = fates[sent++ % fates.length] ?? 'once'
    const about = event === 'room_finished' ? null : (leg.participant ?? null)
    const webhook = { event, about, body: webhookEvent(event, leg) }
    if (fate !== 'lost') pool.push(webhook)
    if (fate === 'twice') pool.push(webhook)
  }

  const userOf = (userId: string, sessionId: string) =>
    legs().find(({ participant: p }) => p.identity === userId && p.attributes.sessionId === sessionId)?.participant

  return {
    pool,
    lastThere: (sessionId: string) => lastThere.get(sessionId) ?? Number.NEGATIVE_INFINITY,
    /** Whether the session's user is there in truth: media is up. */
    isThere: (userId: string, sessionId: string) => userOf(userId, sessionId)?.state === 'ACTIVE',
    /** Whether it is on its way, which keeps the session from ending and is no presence. */
    isJoining: (userId: string, sessionId: string) => userOf(userId, sessionId)?.state === 'JOINING',
    /** Participants with the session's attributes, in any state and under any identity. */
    anybodyOf: (sessionId: string) => legs().some(({ participant }) => participant.attributes.sessionId === sessionId),
    /** To be called before time passes and after whatever may have changed the rooms. */
    look(userId: string) {
      const current = new Map(legs().map((leg) => [key(leg), leg]))
      for (const [id, leg] of known) {
        if (current.has(id)) continue
        send(isActive(leg.participant) ? 'participant_left' : 'participant_connection_aborted', leg)
      }
      for (const [sid, name] of rooms) {
        if (sfu.rooms.get(name)?.sid !== sid) send('room_finished', { room: { sid, name } })
      }
      for (const [id, leg] of current) if (!known.has(id) && isActive(leg.participant)) send('participant_joined', leg)
      for (const { participant } of [...known.values(), ...current.values()]) {
        const { sessionId } = participant.attributes
        if (sessionId && participant.identity === userId && isActive(participant)) lastThere.set(sessionId, now())
      }
      known = current
      rooms = new Map([...sfu.rooms.values()].map(({ sid, name }) => [sid, name]))
    },
  }
}

export interface Webhook {
  event: string
  about: SfuParticipant | null
  body: unknown
}

const isActive = ({ state }: SfuParticipant) => state === 'ACTIVE'
