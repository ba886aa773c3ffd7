import { AgentDispatch, ParticipantInfo, Room, SIPParticipantInfo } from 'livekit-server-sdk'
import type { DisconnectReason, SfuDispatch, SfuParticipant, SfuRoom } from './sfu-rooms.ts'

// LiveKit's messages in its two forms of JSON: Twirp answers name every field, webhooks leave defaults out.

const TWIRP = { emitDefaultValues: true, useProtoFieldName: true } as const
const seconds = (ms: number) => String(Math.floor(ms / 1000))

/** livekit.Room as RoomService answers with it. */
export const roomAnswer = ({ sid, name, emptyTimeout, departureTimeout, createdAtMs, participants }: SfuRoom) =>
  Room.fromJson({
    ...{ sid, name, emptyTimeout, departureTimeout },
    creationTime: seconds(createdAtMs),
    creationTimeMs: String(createdAtMs),
    turnPassword: 'unused',
    // LiveKit's own count is up to 5 s old.
    numParticipants: [...participants.values()].filter(({ kind }) => kind !== 'AGENT').length,
    enabledCodecs: [{ mime: 'audio/opus' }],
  }).toJson(TWIRP)

function participantInfo(participant: SfuParticipant, disconnectReason: DisconnectReason | 'UNKNOWN_REASON') {
  const { joinedAtMs, ...fields } = participant
  return ParticipantInfo.fromJson({
    ...fields,
    joinedAt: seconds(joinedAtMs),
    joinedAtMs: String(joinedAtMs),
    // A second leg may only publish.
    permission: { canSubscribe: !fields.identity.includes('#'), canPublish: true, canPublishData: true },
    disconnectReason,
  })
}

/** livekit.ParticipantInfo as RoomService answers with it. */
export const participantAnswer = (participant: SfuParticipant) =>
  participantInfo(participant, 'UNKNOWN_REASON').toJson(TWIRP)

/** livekit.ParticipantInfo as a webhook carries it. */
export const participantInWebhook = (participant: SfuParticipant, disconnectReason?: DisconnectReason) =>
  participantInfo(participant, disconnectReason ?? 'UNKNOWN_REASON').toJson()

/** livekit.AgentDispatch as AgentDispatchService answers with it. */
export const dispatchAnswer = ({ createdAtMs, jobs, ...fields }: SfuDispatch) =>
  AgentDispatch.fromJson({ ...fields, state: { createdAt: `${createdAtMs}000000`, jobs } }).toJson(TWIRP)

/** livekit.SIPParticipantInfo as SIP answers with it. */
export const sipParticipantAnswer = ({ sid, identity }: SfuParticipant, roomName: string) =>
  SIPParticipantInfo.fromJson({
    participantId: sid,
    participantIdentity: identity,
    roomName,
    sipCallId: `SCL_${sid.slice(3)}`,
  }).toJson(TWIRP)

/** How livekit-server words a refusal of its own, without Twirp's `meta`. */
export const refusal = (status: number, code: 'not_found' | 'unavailable' | 'internal', what: string) => ({
  status,
  body: { code, msg: `twirp error unknown: ${what}` },
})
