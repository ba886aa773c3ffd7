import type { z } from '@hono/zod-openapi'
import { AppError } from '../errors.ts'
import { isShallow, parseJson } from '../http/json.ts'
import { withoutInvisible } from '../http/text.ts'
import { MAX_METADATA_BYTES, type RoomConfig, type TokenRequest } from './schemas.ts'

type ParsedRequest = z.infer<typeof TokenRequest>

export interface JoinRequest {
  room: string | undefined
  identity: string | undefined
  name: string | undefined
  metadata: Record<string, unknown>
  attributes: Record<string, string>
  /** The agent to dispatch (the default one without a name), the client's data for it, and which of its deployments. */
  agent: { name: string | undefined; data: string | null; deployment: string | null }
  autoCreateRoom: boolean
  sessionId: string | undefined
}

/**
 * Merges both dialects into one request, and refuses everything that a client may not choose.
 * @throws AppError naming the field: `validation_failed` if the dialects contradict each other, `attribute_forbidden`,
 * `metadata_invalid`, `metadata_forbidden`, `metadata_too_large`, `room_config_forbidden`.
 */
export function joinRequest(body: ParsedRequest): JoinRequest {
  const attributes = same('participant_attributes', body.participant_attributes, body.participantAttributes) ?? {}
  const metadataText = same('participant_metadata', body.participant_metadata, body.participantMetadata)
  const metadata = parseMetadata(metadataText)
  refuseOwnAttributes(attributes)
  const request: JoinRequest = {
    room: same('room', body.room_name, body.roomName, body.room),
    identity: same('identity', body.participant_identity, body.participantIdentity, body.identity),
    name: same('name', body.participant_name, body.participantName, body.name),
    metadata,
    attributes,
    agent: requestedAgent(same('room_config', body.room_config, body.roomConfig) ?? {}),
    autoCreateRoom: same('auto_create_room', body.auto_create_room, body.autoCreateRoom) ?? false,
    sessionId: same('session_id', body.session_id, body.sessionId),
  }
  const bytes = Buffer.byteLength((metadataText ?? '') + JSON.stringify(attributes) + (request.agent.data ?? ''))
  if (bytes > MAX_METADATA_BYTES) {
    throw AppError.field(
      'metadata_too_large',
      'participant_metadata',
      `Metadata, attributes and agent metadata together may have ${MAX_METADATA_BYTES} bytes; these have ${bytes}.`,
    )
  }
  return request
}

/**
 * The value given in any of a field's spellings; objects in two spellings are not compared.
 * @throws AppError `validation_failed` when they contradict each other
 */
export function same<T>(field: string, ...spellings: Array<T | undefined>): T | undefined {
  const [value, ...others] = spellings.filter((spelling) => spelling !== undefined)
  if (others.some((other) => other !== value)) {
    throw AppError.field('validation_failed', field, `${field} is given twice, with different values.`)
  }
  return value
}

/** A name that a reader could take for one of the pair, whatever its case and what surrounds it. */
const isOwn = (name: string): boolean => /^(userid|sessionid)$/.test(folded(name))
const folded = (name: string) => withoutInvisible(name.normalize('NFKC')).trim().toLowerCase()

function refuseOwnAttributes(attributes: Record<string, string>): void {
  for (const key of Object.keys(attributes)) {
    if (isOwn(key) || folded(key).startsWith('lk.')) {
      const field = `participant_attributes.${key}`
      throw AppError.field(
        'attribute_forbidden',
        field,
        'The attributes userId, sessionId and lk.* are set by the server.',
      )
    }
  }
}

function parseMetadata(metadata: string | undefined): Record<string, unknown> {
  if (metadata === undefined) return {}
  const field = 'participant_metadata'
  const parsed = parseJson(metadata)
  if ('problem' in parsed) {
    throw AppError.field(
      'metadata_invalid',
      field,
      `The metadata ${parsed.problem}; it must be a JSON object, as a string.`,
    )
  }
  const { value } = parsed
  if (typeof value !== 'object' || value === null || Array.isArray(value) || !isShallow(value)) {
    throw AppError.field('metadata_invalid', field, 'The metadata must be a JSON object that is not nested too deeply.')
  }
  if (Object.keys(value).some(isOwn)) {
    throw AppError.field('metadata_forbidden', field, 'The metadata keys userId and sessionId are set by the server.')
  }
  return { ...value }
}

/** LiveKit accepts both spellings of a field. */
const inBothSpellings = (fields: string[]) =>
  fields.map((field) => [field, field.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())] as const)

/** Fields of livekit.RoomConfiguration that would let a client control the room. */
const PRIVILEGED_ROOM = inBothSpellings([
  'name',
  'empty_timeout',
  'departure_timeout',
  'max_participants',
  'metadata',
  'egress',
  'min_playout_delay',
  'max_playout_delay',
  'sync_streams',
  'tags',
])
/** The same for livekit.RoomAgentDispatch. */
const PRIVILEGED_AGENT = inBothSpellings(['restart_policy', 'attributes'])

function requestedAgent(config: z.infer<typeof RoomConfig>): JoinRequest['agent'] {
  refusePrivileged(config, PRIVILEGED_ROOM, 'room_config')
  const agents = config.agents ?? []
  for (const agent of agents) refusePrivileged(agent, PRIVILEGED_AGENT, 'room_config.agents')
  if (agents.length > 1) {
    throw AppError.field('room_config_forbidden', 'room_config.agents', 'A session has one agent.')
  }
  const [agent] = agents
  const name = same('room_config.agents', agent?.agent_name, agent?.agentName)
  return { name, data: agent?.metadata ?? null, deployment: agent?.deployment ?? null }
}

function refusePrivileged(
  object: Record<string, unknown>,
  fields: ReadonlyArray<readonly [string, string]>,
  where: string,
): void {
  for (const [field, camel] of fields) {
    if (!isDefault(object[field]) || !isDefault(object[camel])) {
      throw AppError.field('room_config_forbidden', `${where}.${field}`, `The server decides ${where}.${field}.`)
    }
  }
}

/** Protobuf's defaults, which mean "not set": absent, null, 0, false, an empty string, list or object. */
function isDefault(value: unknown): boolean {
  if (!value || value === '0') return true
  return typeof value === 'object' && Object.keys(value).length === 0
}
