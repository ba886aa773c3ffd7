import { z } from '@hono/zod-openapi'
import { hasNoControlCharacters } from '../http/text.ts'

/** Characters. LiveKit's own limit for names, identities and rooms is in bytes, which some scripts reach first. */
const MAX_NAME = 128
const MAX_NAME_BYTES = 256
/** Metadata and attributes travel in the token, and the token in a URL. */
export const MAX_METADATA_BYTES = 4096

/** Absent, null and empty mean the same: SDKs differ in what they send for "not given". */
const optional = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (value === null || value === '' ? undefined : value), schema.optional())
const label = optional(
  z
    .string()
    .max(MAX_NAME)
    .refine((value) => Buffer.byteLength(value) <= MAX_NAME_BYTES, `must have at most ${MAX_NAME_BYTES} bytes of UTF-8`)
    // A lone surrogate has no UTF-8: LiveKit could not decode it.
    .refine((value) => !/\p{Surrogate}/u.test(value), 'must be well-formed Unicode')
    .refine(hasNoControlCharacters, 'must not hold control characters'),
)
const text = optional(z.string().max(MAX_METADATA_BYTES))

/** A room name, as `/token` and `/rooms` accept it. */
export const RoomName = label
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
  metadata: text.describe('For the agent: `data` in the metadata of its job, verbatim.'),
})
export const RoomConfig = z.looseObject({
  agents: optional(z.array(AgentDispatch).max(16)).describe(
    'The agent that LiveKit dispatches: one at most, and by name, metadata and deployment only. Not for an agent’s token.',
  ),
})

const TOGETHER = `Metadata, attributes and agent metadata have at most ${MAX_METADATA_BYTES} bytes together. Not for an agent’s token.`

/** A request to LiveKit's standard token endpoint or in the token guide's dialect; both may be mixed. */
export const TokenRequest = z
  .object({
    room_name: label.describe(
      `Up to ${NAME_SIZE}. Left out: a fresh, unguessable one; an agent has to name one. Another user’s is \`room_forbidden\`.`,
    ),
    participant_identity: optional(z.string().max(256)).describe(
      'The caller’s own id, which is the default. Any other is `identity_forbidden`.',
    ),
    participant_name: label.describe(
      `The name in the room, up to ${NAME_SIZE}. Left out: the user’s own, or the agent’s id.`,
    ),
    participant_metadata: text.describe(
      `A JSON object, as a string; the service adds \`sessionId\` to it. The keys \`userId\` and \`sessionId\` are \`metadata_forbidden\`. ${TOGETHER}`,
    ),
    participant_attributes: optional(z.record(z.string().max(256), z.string().max(MAX_METADATA_BYTES))).describe(
      `\`userId\`, \`sessionId\` and \`lk.*\` are \`attribute_forbidden\`: the first two are set by the server. ${TOGETHER}`,
    ),
    room_config: optional(RoomConfig).describe(
      'LiveKit’s RoomConfiguration, of which a client may only choose `agents`. Every other field of it is `room_config_forbidden`, unless it has protobuf’s default.',
    ),
    room: label.describe('The same as `room_name`; both only if they agree.'),
    identity: optional(z.string().max(256)).describe('The same as `participant_identity`; both only if they agree.'),
    name: label.describe('The same as `participant_name`; both only if they agree.'),
    auto_create_room: optional(z.boolean()).describe(
      'Whether the room is created in LiveKit now; otherwise the first join does it. Not for an agent’s token.',
    ),
    session_id: optional(z.string().max(128)).describe(
      'One of the user’s unfinished sessions, for another token to it. Left out: a new session. Not for an agent’s token.',
    ),
  })
  .openapi('TokenRequest', {
    description: [
      'LiveKit’s own names for what a client may ask, and shorter ones that mean the same. Null and an empty string count as',
      'left out; fields that are not listed are ignored.',
    ].join(' '),
  })
