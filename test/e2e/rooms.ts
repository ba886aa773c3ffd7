import { ParticipantInfo_State, type RoomServiceClient } from 'livekit-server-sdk'
import { until } from './processes.ts'

/** Waits until LiveKit itself lists the participant with its media up. */
export const untilActive = (rooms: RoomServiceClient, room: string, identity: string) =>
  until(`${identity} is active in ${room}`, async () =>
    (await rooms.listParticipants(room)).some(
      (p) => p.identity === identity && p.state === ParticipantInfo_State.ACTIVE,
    ),
  )

/** Waits until LiveKit no longer lists the participant. */
export const untilGone = (rooms: RoomServiceClient, room: string, identity: string) =>
  until(`${identity} is gone from ${room}`, async () =>
    (await rooms.listParticipants(room)).every((p) => p.identity !== identity),
  )
