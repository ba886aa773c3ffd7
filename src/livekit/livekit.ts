/** Why LiveKit cannot be queried, as far as an operator can do something about it. */
export const LIVEKIT_FAILURES = [
  'unreachable',
  'timeout',
  'redirected',
  'not_livekit',
  'key_refused',
  'clock_skew',
  'failed',
] as const
export type LiveKitFailure = (typeof LIVEKIT_FAILURES)[number]

/** The cause of a `livekit_unavailable`. Its message says what to do, and holds nothing that another system wrote. */
export class LiveKitError extends Error {
  readonly kind: LiveKitFailure
  /** Twirp's error code, when LiveKit itself answered with an error. */
  readonly code: string | undefined
  constructor(kind: LiveKitFailure, message: string, code?: string) {
    super(message)
    this.name = 'LiveKitError'
    this.kind = kind
    this.code = code
  }
}

/** Twirp codes of a request that LiveKit did not carry out. After any other code it may have, or may still do so. */
const REFUSALS = ['invalid_argument', 'malformed', 'bad_route', 'not_found', 'permission_denied', 'resource_exhausted']

/** Whether LiveKit itself refused, so that the request had no effect. After a timeout, for example, that is unknown. */
export const isRefusal = ({ cause }: Error): boolean =>
  cause instanceof LiveKitError && cause.code !== undefined && REFUSALS.includes(cause.code)

/**
 * A participant as LiveKit lists it. Its `attributes` are as minted: the join token does not let it change them. Those of
 * a SIP participant prove nothing, since a trunk can map the headers of a call to attributes.
 */
export interface Participant {
  sid: string
  identity: string
  attributes: Record<string, string>
  /** A plain user connection; agents, egress, SIP and so on are not. */
  isStandard: boolean
  /** The participant of an agent's job. */
  isAgent: boolean
  /** A phone call. */
  isSip: boolean
  /** Media is up, and a phone was answered. Before that a participant is joining, not present. */
  isActive: boolean
}

export interface Room {
  sid: string
  name: string
  /** All but agents, joining ones included; LiveKit counts at most every 5 s (roomUpdateInterval, rtc/room.go). */
  participants: number
}

export interface NewDispatch {
  agentName: string
  metadata: string
  /** The job's, which only the service sets. */
  attributes: Record<string, string>
  /** Which workers of that name get the job: those registered with the same deployment, or with none. */
  deployment?: string
}

export interface Dispatch extends NewDispatch {
  id: string
  /**
   * The jobs of the workers that took it. LiveKit offers a dispatch only once, to the workers registered when it is
   * created, and lists a job as running for as long as the room exists, even if its worker was killed.
   */
  jobs: Array<{ identity: string; hasSucceeded: boolean }>
}

/** A phone call as a participant of a room. */
interface NewCall {
  /** LiveKit's outbound trunk. */
  trunkId: string
  /** E.164, such as +4930123456. */
  to: string
  room: string
  identity: string
  attributes: Record<string, string>
  /** LiveKit hangs up after this. */
  maxSeconds: number
}

/** Seconds; the names are those of livekit.CreateRoomRequest and livekit.RoomConfiguration. */
export interface RoomTimeouts {
  /** How long a room stays before its first participant joins. */
  emptyTimeout: number
  /** How long a room stays after the last participant left. */
  departureTimeout: number
}

/**
 * What the service asks of a LiveKit server. LiveKit's own "not found" is `null`, an empty list or `false`; any other
 * failure (transport, timeout, 5xx, a proxy's page) is AppError `livekit_unavailable` with a LiveKitError as its cause,
 * never mistaken for absence.
 */
export interface LiveKit {
  /** All rooms, or those of the given names that exist. */
  listRooms(names?: string[]): Promise<Room[]>
  listParticipants(room: string): Promise<Participant[]>
  getParticipant(room: string, identity: string): Promise<Participant | null>
  /** Idempotent: an existing room stays as it is. */
  createRoom(name: string, timeouts: RoomTimeouts): Promise<void>
  /** Returns false if the room does not exist. */
  deleteRoom(name: string): Promise<boolean>
  /**
   * Removes the participant that now has this identity; false if there is none. LiveKit Cloud then refuses this
   * identity's tokens for the room that were signed before `revokedUntil` (milliseconds since the epoch).
   */
  removeParticipant(room: string, identity: string, revokedUntil: number): Promise<boolean>
  listDispatches(room: string): Promise<Dispatch[]>
  /** Returns its id. @throws AppError; unless it `isRefusal`, LiveKit may have created it, or may do so within 5 s */
  createDispatch(room: string, dispatch: NewDispatch): Promise<string>
  /** Ends its jobs and removes their agents from the room. Returns false if the dispatch does not exist. */
  deleteDispatch(room: string, id: string): Promise<boolean>
  /**
   * Adds a participant to the room that rings a phone, and returns its sid without waiting for an answer.
   * @throws AppError `call_failed` when LiveKit refuses the call; after `livekit_unavailable` the phone may ring nevertheless
   */
  createSipParticipant(call: NewCall): Promise<string>
}
