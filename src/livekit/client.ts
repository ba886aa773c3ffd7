import {
  AgentDispatchClient,
  type ParticipantInfo,
  type Room as RoomInfo,
  RoomServiceClient,
  ServerError,
} from 'livekit-server-sdk'
import type { KeyPair } from '../config.ts'
import { AppError } from '../errors.ts'
import type { LiveKit, Participant, Room } from './livekit.ts'

/** Seconds that LiveKit has to answer one request. */
const TIMEOUT_SECONDS = 2
/** livekit.ParticipantInfo.Kind STANDARD and AGENT, and State ACTIVE; the SDK does not export the first enum. */
const STANDARD = 0
const AGENT = 4
const ACTIVE = 2

/** The real LiveKit, over RoomService and AgentDispatchService (Twirp). */
export function createLiveKitClient(url: string, { key, secret }: KeyPair): LiveKit {
  const options = { requestTimeout: TIMEOUT_SECONDS, failover: false }
  const rooms = new RoomServiceClient(url, key, secret, options)
  const dispatches = new AgentDispatchClient(url, key, secret, options)
  return {
    listRooms: async (names) => (await ask(rooms.listRooms(names), [])).map(toRoom),
    listParticipants: async (room) => (await ask(rooms.listParticipants(room), [])).map(toParticipant),
    async getParticipant(room, identity) {
      const info = await ask(rooms.getParticipant(room, identity), null)
      return info && toParticipant(info)
    },
    async createRoom(name, { emptySeconds, departureSeconds }) {
      const create = rooms.createRoom({ name, emptyTimeout: emptySeconds, departureTimeout: departureSeconds })
      const room = await ask(create, null)
      if (!room) throw unavailable()
      return toRoom(room)
    },
    deleteRoom: (name) =>
      ask(
        rooms.deleteRoom(name).then(() => true),
        false,
      ),
    removeParticipant: (room, identity) =>
      ask(
        rooms.removeParticipant(room, identity).then(() => true),
        false,
      ),
    listDispatches: async (room) =>
      (await ask(dispatches.listDispatch(room), [])).map(({ id, agentName, metadata, state }) => ({
        id,
        agentName,
        metadata,
        isTaken: (state?.jobs.length ?? 0) > 0,
      })),
    async createDispatch(room, { agentName, metadata }) {
      const created = await ask(dispatches.createDispatch(room, agentName, { metadata }), null)
      if (!created) throw unavailable()
    },
    deleteDispatch: (room, id) =>
      ask(
        dispatches.deleteDispatch(id, room).then(() => true),
        false,
      ),
  }
}

/** LiveKit's own `not_found` becomes `absent`; any other failure throws `livekit_unavailable`. */
async function ask<T, A>(question: Promise<T>, absent: A): Promise<T | A> {
  try {
    return await question
  } catch (error) {
    if (isNotFound(error)) return absent
    throw unavailable(error)
  }
}

/** LiveKit's own 404. A proxy that rewrites the content type leaves `code` unset and the JSON in the message. */
function isNotFound(error: unknown): boolean {
  if (!(error instanceof ServerError) || error.status !== 404) return false
  if (error.code !== undefined) return error.code === 'not_found'
  try {
    return (JSON.parse(error.message) as { code?: unknown } | null)?.code === 'not_found'
  } catch {
    return false
  }
}

const unavailable = (cause?: unknown) =>
  new AppError('livekit_unavailable', 'LiveKit did not answer.', { cause, retryAfterSeconds: 2 })

const toRoom = ({ sid, name, numParticipants }: RoomInfo): Room => ({ sid, name, participants: numParticipants })

function toParticipant(info: ParticipantInfo): Participant {
  return {
    sid: info.sid,
    identity: info.identity,
    attributes: info.attributes,
    isStandard: (info.kind as number) === STANDARD,
    isAgent: (info.kind as number) === AGENT,
    isActive: (info.state as number) === ACTIVE,
  }
}
