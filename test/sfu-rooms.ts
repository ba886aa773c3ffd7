import { randomBytes } from 'node:crypto'
import { decodeJwt } from 'jose'
import { z } from 'zod'

export interface SfuParticipant {
  sid: string
  identity: string
  name: string
  metadata: string
  attributes: Record<string, string>
  kind: 'STANDARD' | 'AGENT' | 'SIP' | 'EGRESS'
  state: 'JOINING' | 'JOINED' | 'ACTIVE' | 'DISCONNECTED'
  joinedAtMs: number
}

export interface Timeouts {
  /** Seconds that a room stays before its first join. */
  emptyTimeout: number
  /** Seconds a room stays after the last participant left. */
  departureTimeout: number
}

export interface SfuDispatch {
  id: string
  agentName: string
  room: string
  metadata: string
  attributes: Record<string, string>
  createdAtMs: number
  /** Taken by a worker that was there when it was made; none comes later. */
  jobs: Array<{ id: string; state: { status: string; participantIdentity: string } }>
}

export interface SfuRoom extends Timeouts {
  sid: string
  name: string
  createdAtMs: number
  leftAtMs: number | null
  participants: Map<string, SfuParticipant>
  dispatches: SfuDispatch[]
}

/** One connection to one room, as webhooks name it. */
export interface Leg {
  room: { sid: string; name: string }
  participant: SfuParticipant
}

/** livekit.DisconnectReason, those that the fake brings about. */
export type DisconnectReason =
  | 'CLIENT_INITIATED'
  | 'DUPLICATE_IDENTITY'
  | 'PARTICIPANT_REMOVED'
  | 'ROOM_DELETED'
  | 'ROOM_CLOSED'
  | 'SIGNAL_CLOSE'
  | 'CONNECTION_TIMEOUT'

/** Something that LiveKit sends a webhook about. */
export interface SfuEvent extends Pick<Leg, 'room'> {
  event: 'room_started' | 'participant_joined' | 'participant_left' | 'participant_connection_aborted' | 'room_finished'
  participant?: SfuParticipant
  disconnectReason?: DisconnectReason
}

/** What a room has that is created without saying so (livekit.yaml). */
const DEFAULT_TIMEOUTS: Timeouts = { emptyTimeout: 300, departureTimeout: 20 }

const Attributes = z.record(z.string(), z.string()).default({})
const AgentNamed = z.object({ agentName: z.string(), metadata: z.string().default(''), attributes: Attributes })
type AgentNamed = z.infer<typeof AgentNamed>

const JoinClaims = z.object({
  sub: z.string(),
  name: z.string().default(''),
  metadata: z.string().default(''),
  attributes: z.record(z.string(), z.string()).default({}),
  kind: z.literal('agent').optional(),
  video: z.object({ roomJoin: z.literal(true), room: z.string().min(1) }),
  roomConfig: z
    .object({
      agents: z.array(AgentNamed).default([]),
      emptyTimeout: z.number().default(0),
      departureTimeout: z.number().default(0),
    })
    .prefault({}),
})

export const newSid = (prefix: 'PA' | 'RM' | 'AD' | 'AJ' | 'EV') => `${prefix}_${randomBytes(8).toString('hex')}`

/** Rooms and who is in them, as a LiveKit server of one node keeps them, and the event of each change. */
export function sfuRooms() {
  const rooms = new Map<string, SfuRoom>()
  const workers = new Set<string>()
  const failing = new Set<string>()
  const listeners = new Set<(sfuEvent: SfuEvent) => void>()
  const emit = (sfuEvent: SfuEvent) => {
    for (const listener of listeners) listener(sfuEvent)
  }
  const nameOf = ({ sid, name }: SfuRoom) => ({ sid, name })

  /** The room of that name, created now if there is none. */
  function named(name: string, given: Timeouts = DEFAULT_TIMEOUTS, agents: AgentNamed[] = []): SfuRoom {
    const existing = rooms.get(name)
    if (existing) return existing
    const timeouts = {
      // Protobuf's 0 is a value that is not given.
      emptyTimeout: given.emptyTimeout || DEFAULT_TIMEOUTS.emptyTimeout,
      departureTimeout: given.departureTimeout || DEFAULT_TIMEOUTS.departureTimeout,
    }
    const times = { createdAtMs: Date.now(), leftAtMs: null }
    const room = { sid: newSid('RM'), name, ...timeouts, ...times, participants: new Map(), dispatches: [] }
    rooms.set(name, room)
    // Where no agent is named, LiveKit dispatches those without a name.
    if (agents.length === 0) dispatch(room, '', '')
    for (const agent of agents) dispatch(room, agent.agentName, agent.metadata, agent.attributes)
    emit({ event: 'room_started', room: nameOf(room) })
    closeIfIdleIn(room.emptyTimeout, room)
    return room
  }

  /** The time counts from the last leave, if there is a later one. */
  function closeIfIdleIn(seconds: number, room: SfuRoom): void {
    const { leftAtMs } = room
    setTimeout(() => {
      // Agents keep no room open.
      const isIdle = [...room.participants.values()].every(({ kind }) => kind === 'AGENT')
      if (rooms.get(room.name) === room && room.leftAtMs === leftAtMs && isIdle) close(room, 'ROOM_CLOSED')
    }, seconds * 1000).unref()
  }

  function close(room: SfuRoom, reason: DisconnectReason): void {
    rooms.delete(room.name)
    for (const participant of room.participants.values()) sendOut(room, participant, reason)
    emit({ event: 'room_finished', room: nameOf(room) })
  }

  function sendOut(room: SfuRoom, participant: SfuParticipant, disconnectReason: DisconnectReason): void {
    room.participants.delete(participant.identity)
    room.leftAtMs = Date.now()
    const event = participant.state === 'ACTIVE' ? 'participant_left' : 'participant_connection_aborted'
    emit({ event, room: nameOf(room), participant: { ...participant, state: 'DISCONNECTED' }, disconnectReason })
    closeIfIdleIn(room.departureTimeout, room)
  }

  /** A participant joins and replaces the one with the same identity in that room. */
  function enter(
    name: string,
    { identity, ...given }: Partial<SfuParticipant> & Pick<SfuParticipant, 'identity'>,
  ): Leg {
    const room = named(name)
    const older = room.participants.get(identity)
    if (older) sendOut(room, older, 'DUPLICATE_IDENTITY')
    const defaults = { sid: newSid('PA'), name: '', metadata: '', attributes: {}, joinedAtMs: Date.now() }
    const participant: SfuParticipant = { ...defaults, kind: 'STANDARD', state: 'ACTIVE', ...given, identity }
    room.participants.set(identity, participant)
    const leg = { room: nameOf(room), participant }
    if (participant.state === 'ACTIVE') emit({ event: 'participant_joined', ...leg })
    return leg
  }

  function dispatch(
    room: SfuRoom,
    agentName: string,
    metadata: string,
    attributes: Record<string, string> = {},
  ): SfuDispatch {
    const created: SfuDispatch = {
      id: newSid('AD'),
      agentName,
      room: room.name,
      metadata,
      attributes,
      createdAtMs: Date.now(),
      jobs: [],
    }
    room.dispatches.push(created)
    if (workers.has(agentName)) {
      const id = newSid('AJ')
      const identity = `agent-${id}`
      // LiveKit never changes this again, whatever becomes of the job.
      created.jobs.push({ id, state: { status: 'JS_RUNNING', participantIdentity: identity } })
      if (!failing.has(agentName))
        enter(room.name, { identity, kind: 'AGENT', attributes: { 'lk.agent_name': agentName } })
    }
    return created
  }

  /** Its jobs end as well, if there is a worker to tell. */
  function undispatch(name: string, id: string): SfuDispatch | undefined {
    const dispatches = rooms.get(name)?.dispatches ?? []
    const index = dispatches.findIndex((dispatch) => dispatch.id === id)
    const [deleted] = index < 0 ? [] : dispatches.splice(index, 1)
    if (!deleted || !workers.has(deleted.agentName)) return deleted
    for (const { state } of deleted.jobs) remove(name, state.participantIdentity)
    return deleted
  }

  /** Whoever holds the identity now is sent out; false when nobody does. */
  function remove(name: string, identity: string): boolean {
    const room = rooms.get(name)
    const participant = room?.participants.get(identity)
    if (room && participant) sendOut(room, participant, 'PARTICIPANT_REMOVED')
    return participant !== undefined
  }

  return {
    rooms,
    /** The names of the agents that have a worker now. */
    workers,
    /** The names of the agents whose jobs end before they join. */
    failing,
    named,
    enter,
    dispatch,
    undispatch,
    /** Calls back on everything that LiveKit sends a webhook about, as it happens. */
    onEvent: (listener: (sfuEvent: SfuEvent) => void) => void listeners.add(listener),
    /** Joins with a join token as a client would; `given` is for what no well-behaved client does. */
    join(token: string, given: Partial<SfuParticipant> = {}): Leg {
      const { sub, name, metadata, attributes, kind, video, roomConfig } = JoinClaims.parse(decodeJwt(token))
      // LiveKit reads the token's room configuration only at the join that creates the room.
      named(video.room, roomConfig, roomConfig.agents)
      const asMinted = { identity: sub, name, metadata, attributes, kind: kind ? 'AGENT' : 'STANDARD' } as const
      return enter(video.room, { ...asMinted, ...given })
    },
    /** That connection ends; a newer one of the same identity stays. */
    leave(
      { room: { name }, participant: { identity, sid } }: Leg,
      reason: DisconnectReason = 'CLIENT_INITIATED',
    ): void {
      const room = rooms.get(name)
      const participant = room?.participants.get(identity)
      if (room && participant?.sid === sid) sendOut(room, participant, reason)
    },
    remove,
    /** Deletes the room with everyone in it; false when there is none. */
    finishRoom(name: string): boolean {
      const room = rooms.get(name)
      if (room) close(room, 'ROOM_DELETED')
      return room !== undefined
    },
  }
}
