import { createAudioAnalyser, createLocalAudioTrack, type LocalAudioTrack } from 'livekit-client'
import { page, setText } from './elements.ts'

/** Ten times a second is enough for an eye, and easy on a phone. */
const LEVEL_MS = 100
/** A voice leaves the upper half of the frequencies empty, and the volume is over all of them. */
const GAIN = 2.5

export interface Microphone {
  track: LocalAudioTrack
  setMuted(muted: boolean): Promise<void>
  /** Lets go of the device. */
  close(): void
}

/** Asks for the microphone and shows its level until it is closed. */
export async function openMicrophone(): Promise<Microphone> {
  const track = await createLocalAudioTrack()
  // Speech lies well above -75 dB, a quiet room below.
  const { calculateVolume, cleanup } = createAudioAnalyser(track, { minDecibels: -75, maxDecibels: -25, fftSize: 512 })
  const timer = setInterval(() => {
    const level = track.isMuted ? 0 : Math.min(1, calculateVolume() * GAIN)
    page.level.value = level
    setText(page.levelText, track.isMuted ? 'muted' : `${Math.round(level * 100)} %`)
  }, LEVEL_MS)

  return {
    track,
    async setMuted(muted) {
      await (muted ? track.mute() : track.unmute())
    },
    close() {
      clearInterval(timer)
      void cleanup()
      track.stop()
      page.level.value = 0
      setText(page.levelText, 'off')
    },
  }
}
