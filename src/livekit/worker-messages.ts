import { JobStatus, ServerMessage, UpdateWorkerStatus, WorkerMessage, WorkerStatus } from '@livekit/protocol'

/** A message that a worker may not send. `message` is the reason that the worker is told: at most 123 bytes. */
export class WorkerMessageError extends Error {}

/** What the gateway does with one message of a worker. */
interface FromWorker {
  /** What LiveKit gets. */
  forward: Uint8Array
  /** The job that the worker declines. */
  declined?: string
  /** The job that the worker says has ended. */
  ended?: { jobId: string; hasFailed: boolean }
  isStatus?: boolean
}

/** What the gateway learns from one message of LiveKit. */
interface FromLiveKit {
  /** What the worker gets. */
  forward: Uint8Array
  workerId?: string
  offered?: string
  assigned?: AssignedJob
  terminated?: string
}

export interface AssignedJob {
  id: string
  room: string
  attributes: Record<string, string>
}

/**
 * Reads a worker's message, and pins the name it registers under to its account's id; no name means that id. What
 * LiveKit gets is rebuilt from what was read here, so that it cannot read anything else in the same bytes; fields
 * and messages that are unknown here are kept.
 * @throws WorkerMessageError for a message that is not allowed
 */
export function readWorkerMessage(bytes: Uint8Array, agentId: string): FromWorker {
  const message = parse(WorkerMessage, bytes)
  const { case: kind, value } = message.message
  if (kind === 'simulateJob') {
    // LiveKit would answer with a token for whatever room the worker names.
    throw new WorkerMessageError('a worker may not simulate jobs: it could name any room')
  }
  if (kind === 'register') {
    if (value.agentName !== '' && value.agentName !== agentId) {
      throw new WorkerMessageError(`agent_name must be ${agentId}, the account’s id, or empty`)
    }
    value.agentName = agentId
  }
  if (kind === 'availability' && value.participantIdentity.startsWith('user_')) {
    // LiveKit would let it in as that user, and disconnect the user.
    throw new WorkerMessageError('a worker may not join under the identity of a user')
  }
  const forward = message.toBinary()
  if (kind === 'availability') return value.available ? { forward } : { forward, declined: value.jobId }
  if (kind === 'updateWorker') return { forward, isStatus: true }
  if (kind !== 'updateJob') return { forward }
  const hasFailed = value.status === JobStatus.JS_FAILED
  return hasFailed || value.status === JobStatus.JS_SUCCESS
    ? { forward, ended: { jobId: value.jobId, hasFailed } }
    : { forward }
}

/** Reads LiveKit's message. An assignment gets the URL at which the worker's job reaches LiveKit itself, unless it has one. */
export function readServerMessage(bytes: Uint8Array, livekitUrl: string): FromLiveKit {
  const message = parse(ServerMessage, bytes)
  const { case: kind, value } = message.message
  if (kind === 'register') return { forward: bytes, workerId: value.workerId }
  if (kind === 'availability') return { forward: bytes, offered: value.job?.id ?? '' }
  if (kind === 'termination') return { forward: bytes, terminated: value.jobId }
  if (kind !== 'assignment') return { forward: bytes }
  if (!value.url) value.url = livekitUrl
  const { id = '', room, attributes = {} } = value.job ?? {}
  const assigned = { id, room: room?.name ?? '', attributes }
  return { forward: message.toBinary(), assigned }
}

/** Tells LiveKit to offer the worker no further jobs. */
export const fullStatus = (): Uint8Array =>
  new WorkerMessage({
    message: { case: 'updateWorker', value: new UpdateWorkerStatus({ status: WorkerStatus.WS_FULL, load: 1 }) },
  }).toBinary()

function parse<T>(type: { fromBinary(bytes: Uint8Array): T }, bytes: Uint8Array): T {
  try {
    return type.fromBinary(bytes)
  } catch {
    throw new WorkerMessageError('this is not a message of LiveKit’s agent protocol')
  }
}
