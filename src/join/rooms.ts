import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { LiveKit, RoomTimeouts } from '../livekit/livekit.ts'
import type { RoomStore } from '../store/rooms.ts'

/** Seconds that a room waits for its first participant. */
const EMPTY_SECONDS = 300

interface RoomsDeps {
  rooms: RoomStore
  livekit: LiveKit
  config: Pick<Config, 'roomPolicy' | 'reconnectSeconds' | 'maxRoomsPerUser'>
  now: () => number
}

export interface Rooms {
  /** An empty room stays open as long as its user may take to come back, so that the agent is still in it. */
  timeouts: RoomTimeouts
  /** An unguessable name that no room has. */
  newName(): string
  /**
   * Checks the user's right to a named room: its own claim, a first claim, or any known room with `ROOM_POLICY=open`.
   * `isNew` says whether this call claimed it. A claim is renewed, so that it is not pruned soon after.
   * @throws AppError `room_forbidden`; `too_many_rooms`; `livekit_unavailable` when a first claim cannot be checked.
   */
  enter(name: string, userId: string): Promise<{ isNew: boolean }>
  /** Claims a name that LiveKit need not be asked about. @throws AppError `too_many_rooms` */
  claim(name: string, userId: string): Promise<{ ownerId: string; isNew: boolean }>
  /** Creates the room in LiveKit; leaves an existing one as it is. @throws AppError `livekit_unavailable` */
  create(name: string): Promise<void>
}

export function createRooms({ rooms, livekit, config, now }: RoomsDeps): Rooms {
  const timeouts = { emptyTimeout: EMPTY_SECONDS, departureTimeout: config.reconnectSeconds }
  const mayEnter = (ownerId: string, userId: string) => ownerId === userId || config.roomPolicy === 'open'

  async function claim(name: string, userId: string) {
    const max = config.maxRoomsPerUser
    const claimed = await rooms.claim(name, userId, now(), max)
    if (claimed) return claimed
    throw new AppError('too_many_rooms', `You have ${max} rooms, which is the limit. Use one of them, or no name.`)
  }

  async function claimUnknown(name: string, userId: string) {
    if ((await livekit.listRooms([name])).length === 0) return claim(name, userId)
    // Another request may have claimed and created it meanwhile.
    const ownerId = await rooms.findOwner(name)
    // A room that LiveKit has and this service does not know belongs to another system.
    if (ownerId === null) throw forbidden(name)
    return { ownerId, isNew: false }
  }

  return {
    timeouts,
    newName: () => newId('room', now()),
    claim,
    async enter(name, userId) {
      const known = await rooms.findOwner(name)
      // A user who may not enter does not renew the claim.
      if (known !== null && !mayEnter(known, userId)) throw forbidden(name)
      const kept = known === null ? null : await rooms.keep(name, now())
      const { ownerId, isNew } = kept === null ? await claimUnknown(name, userId) : { ownerId: kept, isNew: false }
      if (!mayEnter(ownerId, userId)) throw forbidden(name)
      return { isNew }
    },
    async create(name) {
      await livekit.createRoom(name, timeouts)
    },
  }
}

const forbidden = (name: string) => AppError.field('room_forbidden', 'room', `You may not use the room ${name}.`)
