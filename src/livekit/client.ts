import type { KeyPair } from '../config.ts'
import { type LiveKit, LiveKitError } from './livekit.ts'
import { createTwirp, type LiveKitClientDeps, unavailable } from './twirp.ts'
import { answers } from './wire.ts'

/** The real LiveKit, over RoomService and AgentDispatchService (Twirp). */
export function createLiveKitClient(url: string, keys: KeyPair, deps: LiveKitClientDeps): LiveKit {
  const ask = createTwirp(url, keys, deps)
  const { rooms, participant, participants, dispatches, anything } = answers
  const admin = (name: string) => ({ roomAdmin: true, room: name })
  const roomCreate = { roomCreate: true }

  return {
    listRooms: async (names = []) => (await ask('RoomService/ListRooms', { names }, { roomList: true }, rooms)) ?? [],
    listParticipants: async (room) =>
      (await ask('RoomService/ListParticipants', { room }, admin(room), participants)) ?? [],
    getParticipant: (room, identity) => ask('RoomService/GetParticipant', { room, identity }, admin(room), participant),
    async createRoom(name, { emptySeconds, departureSeconds }) {
      const message = { name, emptyTimeout: emptySeconds, departureTimeout: departureSeconds }
      created(await ask('RoomService/CreateRoom', message, roomCreate, anything))
    },
    deleteRoom: async (room) => (await ask('RoomService/DeleteRoom', { room }, roomCreate, anything)) !== null,
    async removeParticipant(room, identity, revokedUntil) {
      // Without a time, LiveKit Cloud also refuses tokens of the next minute.
      const message = { room, identity, revokeTokenTs: String(Math.floor(revokedUntil / 1000)) }
      return (await ask('RoomService/RemoveParticipant', message, admin(room), anything)) !== null
    },
    listDispatches: async (room) =>
      (await ask('AgentDispatchService/ListDispatch', { room }, admin(room), dispatches)) ?? [],
    async createDispatch(room, dispatch) {
      const message = { room, ...dispatch }
      created(await ask('AgentDispatchService/CreateDispatch', message, admin(room), anything))
    },
    deleteDispatch: async (room, dispatchId) =>
      (await ask('AgentDispatchService/DeleteDispatch', { room, dispatchId }, admin(room), anything)) !== null,
  }
}

function created(answer: unknown): void {
  if (answer === null) throw unavailable(new LiveKitError('failed', 'LiveKit lost the room while creating it.'))
}
