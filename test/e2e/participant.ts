import {
  AudioFrame,
  AudioSource,
  DisconnectReason,
  LocalAudioTrack,
  Room,
  RoomEvent,
  TrackPublishOptions,
  TrackSource,
} from '@livekit/rtc-node'
import type { JoinOptions, Participant } from '../scenarios/stack.ts'
import { secondLeg } from './leg.ts'
import { until } from './processes.ts'

const SAMPLE_RATE = 48_000

/** A participant that is really in the room, with media. */
export interface RtcParticipant extends Participant {
  room: Room
}

/** Joins LiveKit at this URL with a real client. */
export async function join(
  url: string,
  token: string,
  { audio = true, publish }: JoinOptions = {},
): Promise<RtcParticipant> {
  const door = publish === undefined ? undefined : await secondLeg(url, publish)
  const room = new Room()
  let reason: string | undefined
  const whenDisconnected = new Promise<string>((resolve) => {
    room.once(RoomEvent.Disconnected, (why) => {
      reason = DisconnectReason[why]
      resolve(reason)
    })
  })
  await room.connect(door?.url ?? url, token, { autoSubscribe: true, dynacast: false })
  const self = room.localParticipant
  if (!self) throw new Error('connected as nobody')
  const source = audio ? await publishTone(room) : undefined
  return {
    room,
    identity: self.identity,
    sid: self.sid ?? '',
    disconnected: () => reason,
    whenDisconnected,
    sees: (identity) => until(`${self.identity} sees ${identity}`, () => room.remoteParticipants.get(identity)),
    async leave() {
      if (reason === undefined) await room.disconnect()
      await source?.close()
      door?.close()
    },
  }
}

async function publishTone(room: Room): Promise<AudioSource> {
  const source = new AudioSource(SAMPLE_RATE, 1)
  const track = LocalAudioTrack.createAudioTrack('microphone', source)
  const options = new TrackPublishOptions({ source: TrackSource.SOURCE_MICROPHONE })
  await room.localParticipant?.publishTrack(track, options)
  // One second of 440 Hz: what is published is a real track, and nothing runs on after the test.
  const frame = AudioFrame.create(SAMPLE_RATE, 1, SAMPLE_RATE / 2)
  for (let i = 0; i < frame.data.length; i++) {
    frame.data[i] = Math.round(600 * Math.sin((2 * Math.PI * 440 * i) / SAMPLE_RATE))
  }
  await source.captureFrame(frame)
  return source
}
