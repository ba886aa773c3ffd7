import {
  createAudioAnalyser,
  createLocalAudioTrack,
  type LocalAudioTrack,
  type RemoteAudioTrack,
  Room,
  TrackEvent,
} from 'livekit-client'
import { page, setText } from './elements.ts'
import { kept } from './tab.ts'

/** Ten times a second is enough for an eye, and easy on a phone. */
const LEVEL_MS = 100
/** A voice leaves the upper half of the frequencies empty, and the volume is over all of them. */
const GAIN = 2.5

/** Shows how loud a track is; returns what stops that. */
export function meter(track: LocalAudioTrack | RemoteAudioTrack, level: HTMLMeterElement, text: HTMLElement) {
  // Speech lies well above -75 dB, a quiet room below.
  const { calculateVolume, cleanup } = createAudioAnalyser(track, { minDecibels: -75, maxDecibels: -25, fftSize: 512 })
  const timer = setInterval(() => {
    level.value = track.isMuted ? 0 : Math.min(1, calculateVolume() * GAIN)
    setText(text, track.isMuted ? 'muted' : `${Math.round(level.value * 100)} %`)
  }, LEVEL_MS)
  return () => {
    clearInterval(timer)
    void cleanup()
    level.value = 0
    setText(text, 'off')
  }
}

export interface Microphone {
  track: LocalAudioTrack
  setMuted(muted: boolean): Promise<void>
  /** Lets go of the device. */
  close(): void
}

const keptDevice = kept('device')

/** Asks for the microphone; until it is closed, shows its level and offers the others. */
export async function openMicrophone(): Promise<Microphone> {
  const deviceId = keptDevice.get()
  const track = await createLocalAudioTrack(deviceId === null ? {} : { deviceId })
  let stopMeter = meter(track, page.level, page.levelText)
  // Another device means another source for the meter too.
  track.on(TrackEvent.Restarted, () => {
    stopMeter()
    stopMeter = meter(track, page.level, page.levelText)
  })
  page.device.onchange = () => {
    keptDevice.set(page.device.value)
    void track.setDeviceId(page.device.value)
  }
  await offerDevices(track)

  return {
    track,
    async setMuted(muted) {
      await (muted ? track.mute() : track.unmute())
    },
    close() {
      track.removeAllListeners(TrackEvent.Restarted)
      stopMeter()
      track.stop()
      page.deviceRow.hidden = true
    },
  }
}

async function offerDevices(track: LocalAudioTrack): Promise<void> {
  const devices = await Room.getLocalDevices('audioinput', false)
  const current = await track.getDeviceId(false)
  page.device.replaceChildren(
    ...devices.map(({ label, deviceId }) => new Option(label || 'Microphone', deviceId, false, deviceId === current)),
  )
  page.deviceRow.hidden = devices.length < 2
}
