import { z } from '@hono/zod-openapi'
import { strictObject } from '../http/router.ts'
import { isDisplayName, withoutInvisible } from '../http/text.ts'

/** Characters. LiveKit's own limit for names, identities and rooms is in bytes, which some scripts reach first. */
const MAX_NAME = 128
const MAX_NAME_BYTES = 256
/** Metadata and attributes travel in the token, and the token in a URL. */
export const MAX_METADATA_BYTES = 4096

/** Absent, null and empty mean the same: SDKs differ in what they send for "not given". */
const optional = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (value === null || value === '' ? undefined : value), schema.optional())
const name = z
  .string()
  .max(MAX_NAME)
  .refine((value) => Buffer.byteLength(value) <= MAX_NAME_BYTES, `must have at most ${MAX_NAME_BYTES} bytes of UTF-8`)
const label = optional(
  name.refine(isDisplayName, 'must be visible: no control, zero-width or bidirectional characters'),
)
const text = optional(z.string().max(MAX_METADATA_BYTES))

/** A room name, as `/token` and `/rooms` accept it. Two names that look the same but for such characters are one trap. */
export const RoomName = optional(
  name
    .refine((value) => withoutInvisible(value) === value, 'must not hold invisible characters')
    .refine(
      (value) => !/^\s|\s$|[^\S ]/u.test(value),
      'must not begin or end with a space, nor hold other white space',
    ),
)
/** The same in words. */
export const NAME_SIZE = `${MAX_NAME} characters and ${MAX_NAME_BYTES} bytes of UTF-8`

/** Narrower than LiveKit's own rule. */
const DEPLOYMENT = /^[A-Za-z0-9.-]{1,64}$/

const AgentDispatch = z.looseObject({
  agent_name: text.describe(
    'Id of an enabled agent account; others are `agent_not_registered`. Left out: `DEFAULT_AGENT`.',
  ),
  agentName: text.describe('The same as `agent_name`; both only if they agree.'),
  deployment: optional(z.string().regex(DEPLOYMENT, 'must be 1 to 64 letters, digits, dots or hyphens')).describe(
    'Which deployment of the agent’s workers gets the job: LiveKit compares it with the one that they register with.',
  ),
  metadata: text.describe('For the agent: the metadata of its job, verbatim; with `JOB_METADATA=json`, `data` in it.'),
})
export const RoomConfig = z.looseObject({
  agents: optional(z.array(AgentDispatch).max(16)).describe(
    'The agent that LiveKit dispatches: one at most, and by name, metadata and deployment only. Not for an agent’s token.',
  ),
})

const TOGETHER = `Metadata, attributes and agent metadata have at most ${MAX_METADATA_BYTES} bytes together. Not for an agent’s token.`

/** Where the client's words for its agent belong; LiveKit's older starters send them at the top. */
const AGENT_NAME_PLACE = 'The agent is named in room_config: {"agents": [{"agent_name": "…"}]}.'
const AGENT_METADATA_PLACE =
  'It belongs beside the agent: room_config: {"agents": [{"agent_name": "…", "metadata": "…"}]}.'
const PLACES = {
  agentName: AGENT_NAME_PLACE,
  agent_name: AGENT_NAME_PLACE,
  agents: AGENT_NAME_PLACE,
  agentMetadata: AGENT_METADATA_PLACE,
  agent_metadata: AGENT_METADATA_PLACE,
}

const Identity = optional(z.string().max(256))
const Attributes = optional(z.record(z.string().max(256), z.string().max(MAX_METADATA_BYTES)))
const Flag = optional(z.boolean())
const SessionId = optional(z.string().max(128))
const sameAs = (name: string) => `The same as \`${name}\`; both only if they agree.`

/** A request to LiveKit's standard token endpoint, in either of protobuf's spellings, or in the token guide's dialect. */
export const TokenRequest = strictObject(
  {
    room_name: RoomName.describe(
      `Up to ${NAME_SIZE}. Left out: a fresh, unguessable one; an agent has to name one. Another user’s is \`room_forbidden\`.`,
    ),
    participant_identity: Identity.describe(
      'The caller’s own id; any other is `identity_forbidden`. Left out: a user’s own id; for an agent a new identity (its id, `#` and a random part), so that two workers do not take each other’s place.',
    ),
    participant_name: label.describe(
      `The name in the room, up to ${NAME_SIZE}. Left out: the user’s own, or the agent’s id.`,
    ),
    participant_metadata: text.describe(
      `A JSON object, as a string; the service adds \`sessionId\` to it. The keys \`userId\` and \`sessionId\`, in any case, are \`metadata_forbidden\`. ${TOGETHER}`,
    ),
    participant_attributes: Attributes.describe(
      `\`userId\`, \`sessionId\` and \`lk.*\`, in any case, are \`attribute_forbidden\`: the first two are set by the server. ${TOGETHER}`,
    ),
    room_config: optional(RoomConfig).describe(
      'LiveKit’s RoomConfiguration, of which a client may only choose `agents`. Every other field of it is `room_config_forbidden`, unless it has protobuf’s default.',
    ),
    roomName: RoomName.describe(sameAs('room_name')),
    participantIdentity: Identity.describe(sameAs('participant_identity')),
    participantName: label.describe(sameAs('participant_name')),
    participantMetadata: text.describe(sameAs('participant_metadata')),
    participantAttributes: Attributes.describe('Another spelling of `participant_attributes`.'),
    roomConfig: optional(RoomConfig).describe('Another spelling of `room_config`.'),
    room: RoomName.describe(sameAs('room_name')),
    identity: Identity.describe(sameAs('participant_identity')),
    name: label.describe(sameAs('participant_name')),
    auto_create_room: Flag.describe(
      'Whether the room is created in LiveKit now; otherwise the first join does it. Not for an agent’s token.',
    ),
    autoCreateRoom: Flag.describe(sameAs('auto_create_room')),
    session_id: SessionId.describe(
      'One of the user’s unfinished sessions, for another token to it. Left out: a new session. Not for an agent’s token.',
    ),
    sessionId: SessionId.describe(sameAs('session_id')),
  },
  PLACES,
).openapi('TokenRequest', {
  description: [
    'LiveKit’s own names for what a client may ask, in both of protobuf’s spellings, and shorter ones that mean the same.',
    'Null and an empty string count as left out. Other fields are refused by name, so that none is silently lost; should',
    'LiveKit’s SDKs begin to send a new one, this service needs an update for it.',
  ].join(' '),
})
