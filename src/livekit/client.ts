import type { KeyPair } from '../config.ts'
import { AppError } from '../errors.ts'
import { type LiveKit, LiveKitError } from './livekit.ts'
import { createTwirp, type LiveKitClientDeps, unavailable } from './twirp.ts'
import { answers } from './wire.ts'

/** Milliseconds. LiveKit answers a call when its SIP service has joined the room. */
const CALL_TIMEOUT_MS = 10_000

/** The real LiveKit, over RoomService, AgentDispatchService and SIP (Twirp). */
export function createLiveKitClient(url: string, keys: KeyPair, deps: LiveKitClientDeps): LiveKit {
  const ask = createTwirp(url, keys, deps)
  const { rooms, participant, participants, dispatches, dispatchId, sipParticipant, anything } = answers
  const admin = (name: string) => ({ video: { roomAdmin: true, room: name } })
  const roomCreate = { video: { roomCreate: true } }

  return {
    listRooms: async (names = []) =>
      (await ask('RoomService/ListRooms', { names }, { video: { roomList: true } }, rooms)) ?? [],
    listParticipants: async (room) =>
      (await ask('RoomService/ListParticipants', { room }, admin(room), participants)) ?? [],
    getParticipant: (room, identity) => ask('RoomService/GetParticipant', { room, identity }, admin(room), participant),
    async createRoom(name, timeouts) {
      created(await ask('RoomService/CreateRoom', { name, ...timeouts }, roomCreate, anything))
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
      return created(await ask('AgentDispatchService/CreateDispatch', message, admin(room), dispatchId))
    },
    deleteDispatch: async (room, dispatchId) =>
      (await ask('AgentDispatchService/DeleteDispatch', { room, dispatchId }, admin(room), anything)) !== null,
    async createSipParticipant({ trunkId, to, room, identity, attributes, maxSeconds }) {
      const message = {
        sipTrunkId: trunkId,
        sipCallTo: to,
        roomName: room,
        participantIdentity: identity,
        participantAttributes: attributes,
        // Everyone in the room sees a participant's attributes.
        hidePhoneNumber: true,
        maxCallDuration: `${maxSeconds}s`,
      }
      const grants = { sip: { call: true } } as const
      try {
        const sid = await ask('SIP/CreateSIPParticipant', message, grants, sipParticipant, CALL_TIMEOUT_MS)
        if (sid !== null) return sid
      } catch (error) {
        const { cause } = error as Error
        if (cause instanceof LiveKitError && cause.code !== undefined) throw callFailed(cause.code)
        throw error
      }
      throw callFailed('not_found')
    },
  }
}

/** Without a SIP service livekit-server answers `internal`, `unavailable` or, if it is too old to know one, `bad_route`. */
function callFailed(code: string): AppError {
  const why =
    code === 'not_found'
      ? 'it has no outbound trunk with the id in SIP_TRUNK_ID'
      : ['internal', 'unavailable', 'bad_route'].includes(code)
        ? 'its SIP service is missing or failed; livekit-server needs Redis and livekit-sip for it'
        : 'check the trunk in SIP_TRUNK_ID, and the number'
  const message = `LiveKit did not place the call (${code}): ${why}.`
  return new AppError('call_failed', message, { cause: new LiveKitError('failed', message, code) })
}

function created<T>(answer: T | null): T {
  if (answer !== null) return answer
  throw unavailable(new LiveKitError('failed', 'LiveKit lost the room while creating it.', 'not_found'))
}
