import {
  AudioFrame,
  AudioSource,
  AudioStream,
  LocalAudioTrack,
  type Room,
  RoomEvent,
  TrackKind,
  TrackPublishOptions,
  TrackSource,
} from '@livekit/rtc-node'

const SAMPLE_RATE = 16_000
const TONE_HERTZ = 660
const TONE_SECONDS = 0.3
/** Of 32767. */
const TONE_AMPLITUDE = 3000
/** Anything quieter counts as silence. */
const LOUD = 100

/** Counts the seconds of sound that a user makes, over all tracks and reconnects. Call it before connecting. */
export function listenTo(room: Room, identity: string) {
  let samples = 0
  room.on(RoomEvent.TrackSubscribed, async (track, _publication, participant) => {
    if (participant.identity !== identity || track.kind !== TrackKind.KIND_AUDIO) return
    for await (const { data } of new AudioStream(track, { sampleRate: SAMPLE_RATE, numChannels: 1 })) {
      if (data.some((sample) => sample > LOUD)) samples += data.length
    }
  })
  return { seconds: () => samples / SAMPLE_RATE }
}

/** Publishes a track, and returns a function that plays a short tone on it. */
export async function publishTone(room: Room): Promise<() => Promise<void>> {
  const source = new AudioSource(SAMPLE_RATE, 1)
  const track = LocalAudioTrack.createAudioTrack('answer', source)
  await room.localParticipant?.publishTrack(track, new TrackPublishOptions({ source: TrackSource.SOURCE_MICROPHONE }))
  const wave = Int16Array.from({ length: SAMPLE_RATE * TONE_SECONDS }, (_, i) =>
    Math.round(TONE_AMPLITUDE * Math.sin((2 * Math.PI * TONE_HERTZ * i) / SAMPLE_RATE)),
  )
  return () => source.captureFrame(new AudioFrame(wave, SAMPLE_RATE, 1, wave.length))
}
