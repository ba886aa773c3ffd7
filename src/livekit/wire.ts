import { JobStatus, ParticipantInfo_Kind as Kind } from '@livekit/protocol'
import {
  AgentDispatch,
  ParticipantInfo,
  ParticipantInfo_State,
  Room,
  SIPParticipantInfo,
  WebhookEvent,
} from 'livekit-server-sdk'
import type * as LiveKit from './livekit.ts'

/** A number that no enum has. */
const UNKNOWN = -1

type Field = ReturnType<typeof ParticipantInfo.fields.list>[number]
interface MessageType {
  fields: { list(): readonly Field[] }
}
interface Decoder<T> extends MessageType {
  fromJson(json: never, options: { ignoreUnknownFields: boolean }): T
}

/**
 * Decodes protobuf's JSON; unknown fields are ignored. The SDK reads a name that its enum does not have as 0, which is
 * STANDARD among the kinds: here it becomes UNKNOWN. @throws Error for JSON of another shape
 */
const decode = <T>(type: Decoder<T>, json: unknown): T =>
  type.fromJson(withKnownNames(type, json) as never, { ignoreUnknownFields: true })

/** Each message's fields that are enums or messages, by both of their names. */
const fieldsOf = new WeakMap<MessageType, Map<string, Field>>()

function fieldsIn(type: MessageType): Map<string, Field> {
  const fields = type.fields.list().filter(({ kind }) => kind === 'enum' || kind === 'message')
  return new Map(fields.flatMap((field) => [field.name, field.jsonName].map((name) => [name, field])))
}

/** Changes `json` in place: nothing else refers to it, and copying it would take longer than decoding it. */
function withKnownNames(type: MessageType, json: unknown): unknown {
  if (!isObject(json)) return json
  const fields = fieldsOf.get(type) ?? fieldsIn(type)
  fieldsOf.set(type, fields)
  for (const [name, field] of fields) if (Object.hasOwn(json, name)) json[name] = knownValue(field, json[name])
  return json
}

function knownValue(field: Field, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((each) => knownValue(field, each))
  if (field.kind === 'enum' && typeof value === 'string') return field.T.findName(value)?.no ?? UNKNOWN
  return field.kind === 'message' ? withKnownNames(field.T, value) : value
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Ids are stored. LiveKit's own have about 20 characters, and PostgreSQL stores no NUL. */
const MAX_ID = 128

function storableId(id: string): string {
  if (id.length > MAX_ID) throw new TypeError(`an id of more than ${MAX_ID} characters`)
  if (id.includes('\0')) throw new TypeError('an id with a NUL')
  return id
}

function toParticipant({ sid, identity, attributes, kind, state }: ParticipantInfo): LiveKit.Participant {
  return {
    sid: storableId(sid),
    identity,
    attributes,
    isStandard: kind === Kind.STANDARD,
    isAgent: kind === Kind.AGENT,
    isSip: kind === Kind.SIP,
    isActive: state === ParticipantInfo_State.ACTIVE && (kind !== Kind.SIP || isAnswered(attributes)),
  }
}

/** LiveKit's SIP service joins the room before it dials, and sets this attribute when the phone is answered. */
const isAnswered = (attributes: Record<string, string>) => attributes['sip.callStatus'] === 'active'

const toRoom = ({ sid, name, numParticipants }: Room): LiveKit.Room => ({
  sid: storableId(sid),
  name,
  participants: numParticipants,
})

const toDispatch = ({ id, agentName, metadata, attributes, state }: AgentDispatch): LiveKit.Dispatch => ({
  id,
  agentName,
  metadata,
  attributes,
  jobs: (state?.jobs ?? []).map((job) => ({
    identity: job.state?.participantIdentity || `agent-${job.id}`,
    hasSucceeded: job.state?.status === JobStatus.JS_SUCCESS,
  })),
})

/**
 * The entries of a list in an answer. Servers write the name or the JSON name, or nothing at all if it is empty; JSON
 * with other fields alone, such as `{"status":"ok"}`, is another program's.
 */
function list(answer: unknown, name: string, jsonName = name): unknown[] {
  const fields = object(answer)
  const entries = fields[jsonName] ?? fields[name] ?? (Object.keys(fields).length === 0 ? [] : undefined)
  if (!Array.isArray(entries)) throw new TypeError(`${name} is not a list`)
  return entries
}

function object(json: unknown): Record<string, unknown> {
  if (!isObject(json)) throw new TypeError('not an object')
  return json
}

/** Each reads one answer of LiveKit. @throws Error for JSON of another shape */
export const answers = {
  rooms: (json: unknown) => list(json, 'rooms').map((room) => toRoom(decode(Room, room))),
  participant: (json: unknown) => {
    const participant = toParticipant(decode(ParticipantInfo, json))
    if (participant.sid === '') throw new TypeError('a participant without a sid')
    return participant
  },
  participants: (json: unknown) => list(json, 'participants').map(answers.participant),
  dispatches: (json: unknown) =>
    list(json, 'agent_dispatches', 'agentDispatches').map((dispatch) => toDispatch(decode(AgentDispatch, dispatch))),
  /** The id of a new dispatch. */
  dispatchId: (json: unknown) => {
    const { id } = decode(AgentDispatch, object(json))
    if (id === '') throw new TypeError('a dispatch without an id')
    return storableId(id)
  },
  /** The sid of a new SIP participant. */
  sipParticipant: (json: unknown) => {
    const { participantId } = decode(SIPParticipantInfo, object(json))
    if (participantId === '') throw new TypeError('a SIP participant without a sid')
    return storableId(participantId)
  },
  anything: object,
}

/** What the service reads from a webhook; LiveKit keeps the `id` across its retries. */
export interface Webhook {
  id: string
  event: string
  /** Seconds since the epoch, whole, by LiveKit's clock. */
  createdAt: number
  participant: (LiveKit.Participant & { hasKnownState: boolean; disconnectReason: string }) | null
  room: LiveKit.Room | null
}

/** Protobuf's fields are all optional, so any object would be an event: this one has an id. @throws Error */
export function readWebhook(json: unknown): Webhook {
  const { id, event, createdAt, participant, room } = decode(WebhookEvent, object(json))
  if (id === '') throw new Error('The event has no id')
  return {
    id: storableId(id),
    event,
    createdAt: Number(createdAt),
    participant: participant ? { ...toParticipant(participant), ...leavingOf(participant) } : null,
    room: room ? toRoom(room) : null,
  }
}

const REASONS = ParticipantInfo.fields.findJsonName('disconnectReason')

const leavingOf = ({ state, disconnectReason }: ParticipantInfo) => ({
  hasKnownState: state in ParticipantInfo_State,
  disconnectReason: (REASONS?.kind === 'enum' && REASONS.T.findNumber(disconnectReason)?.name) || 'UNKNOWN',
})
