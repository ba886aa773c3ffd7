import {
  AudioFrame,
  AudioSource,
  type DisconnectReason,
  LocalAudioTrack,
  type RemoteParticipant,
  Room,
  RoomEvent,
  TrackPublishOptions,
  TrackSource,
} from '@livekit/rtc-node'
import { until } from './processes.ts'

const SAMPLE_RATE = 48_000

/** A participant that is really in the room, with media. */
export interface Participant {
  room: Room
  identity: string
  sid: string
  /** Undefined while it is connected. */
  disconnected: () => DisconnectReason | undefined
  whenDisconnected: Promise<DisconnectReason>
  /** The other one of this identity, once it is seen. */
  sees: (identity: string) => Promise<RemoteParticipant>
  leave: () => Promise<void>
}

export interface JoinOptions {
  /** Publishes a tone as microphone; default true. */
  audio?: boolean
  /** Another way into the same LiveKit. */
  url?: string
}

export async function join(url: string, token: string, { audio = true }: JoinOptions = {}): Promise<Participant> {
  const room = new Room()
  let reason: DisconnectReason | undefined
  const whenDisconnected = new Promise<DisconnectReason>((resolve) => {
    room.once(RoomEvent.Disconnected, (why) => {
      reason = why
      resolve(why)
    })
  })
  await room.connect(url, token, { autoSubscribe: true, dynacast: false })
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
