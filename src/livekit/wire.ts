import { z } from 'zod'

// LiveKit's messages in protobuf's JSON: names in either spelling; absent and null are the default. The SDK decodes an
// enum name that it does not know to 0, which is STANDARD among the kinds: here it stays the name that it is.

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const camelCase = (name: string) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

/** Unknown fields are ignored. */
const message = <S extends z.ZodRawShape>(fields: S) =>
  z.preprocess((value) => {
    if (!isObject(value)) return value
    const given = Object.entries(value).filter(([, field]) => field !== null)
    return Object.fromEntries(given.map(([name, field]) => [camelCase(name), field]))
  }, z.object(fields))

const text = z.string().default('')
/** Ids are stored. LiveKit's own have about 20 characters. */
const id = z.string().max(128)
const enumeration = z.union([z.string(), z.number()]).default(0)

/** Whether an enum has this value, written by name or by number. */
const is = (value: string | number, name: string, number: number): boolean => value === name || value === number

const STATES = ['JOINING', 'JOINED', 'ACTIVE', 'DISCONNECTED']

/** livekit.ParticipantInfo */
const ParticipantInfo = message({
  sid: id.default(''),
  identity: text,
  attributes: z.record(z.string(), z.string()).default({}),
  kind: enumeration,
  state: enumeration,
  disconnectReason: enumeration,
}).transform(({ kind, state, disconnectReason, ...rest }) => ({
  ...rest,
  isStandard: is(kind, 'STANDARD', 0),
  isAgent: is(kind, 'AGENT', 4),
  isActive: is(state, 'ACTIVE', 2),
  hasKnownState: STATES.some((name, number) => is(state, name, number)),
  // Stored for people; a text that is no name of an enum would be LiveKit's to choose.
  disconnectReason: /^[A-Z_]{1,40}$|^\d{1,3}$/.test(String(disconnectReason)) ? String(disconnectReason) : 'UNKNOWN',
}))

/** livekit.Room */
const RoomInfo = message({ sid: id.default(''), name: text, numParticipants: z.coerce.number().default(0) }).transform(
  ({ numParticipants, ...rest }) => ({ ...rest, participants: numParticipants }),
)

/** livekit.Job */
const Job = message({
  id: text,
  state: message({ status: enumeration, participantIdentity: text }).optional(),
}).transform(({ id, state }) => ({
  identity: state?.participantIdentity || `agent-${id}`,
  hasSucceeded: is(state?.status ?? 0, 'JS_SUCCESS', 2),
}))

/** livekit.AgentDispatch */
const AgentDispatch = message({
  id: text,
  agentName: text,
  metadata: text,
  state: message({ jobs: z.array(Job).default([]) }).optional(),
}).transform(({ state, ...rest }) => ({ ...rest, jobs: state?.jobs ?? [] }))

export const answers = {
  room: RoomInfo,
  rooms: message({ rooms: z.array(RoomInfo).default([]) }),
  participant: ParticipantInfo,
  participants: message({ participants: z.array(ParticipantInfo).default([]) }),
  dispatches: message({ agentDispatches: z.array(AgentDispatch).default([]) }),
  anything: z.looseObject({}),
}

/** livekit.WebhookEvent. Every field is optional in protobuf, so any object would be one: an event has an id. */
export const WebhookEvent = message({
  id: id.min(1),
  event: text,
  participant: ParticipantInfo.optional(),
  room: RoomInfo.optional(),
})
