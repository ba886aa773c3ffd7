import '../src/npm-shell.ts'
import { parseArgs } from 'node:util'
import {
  AudioFrame,
  AudioSource,
  DisconnectReason,
  dispose,
  LocalAudioTrack,
  type Participant,
  Room,
  RoomEvent,
  TrackPublishOptions,
  TrackSource,
} from '@livekit/rtc-node'

// Joins a LiveKit room as the user a token was minted for, without a browser: publishes a quiet tone, reports what it
// sees, leaves on Ctrl-C.   npm run join -- <token> [--url ws://127.0.0.1:7880] [--say "a tea, please"]

const SAMPLE_RATE = 48_000
const FRAME_SAMPLES = SAMPLE_RATE / 50
const TONE_HERTZ = 440
/** Of 32767: audible in a meter, hardly in a headset. */
const TONE_AMPLITUDE = 600
const CONNECT_SECONDS = 15

const say = (line: string) => console.log(line)

const USAGE = `Usage: npm run join -- <token> [--url ws://127.0.0.1:7880] [--say "a tea, please"]

Joins a room without a browser: publishes a quiet tone, reports what it sees, leaves on Ctrl-C.
  <token>   the participant_token that POST /token answers with
  --url     the LiveKit server (LIVEKIT_URL, or ws://127.0.0.1:7880)
  --say     what to write to the agent once it listens`

function readArguments() {
  const { values, positionals } = parseArgs({
    options: { url: { type: 'string' }, say: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    allowPositionals: true,
  })
  if (values.help) {
    say(USAGE)
    process.exit()
  }
  const [token] = positionals
  if (!token || positionals.length > 1) throw new Error(USAGE)
  return { token, url: values.url ?? (process.env.LIVEKIT_URL || 'ws://127.0.0.1:7880'), words: values.say }
}

function describe(participant: Participant): string {
  const attributes = Object.entries(participant.attributes).map(([name, value]) => ` ${name}=${value}`)
  return `${participant.identity}${attributes.join('')}`
}

/** Prints one line for everything that happens in the room; resolves with the reason once the connection is over. */
function watch(room: Room): Promise<DisconnectReason> {
  room.on(RoomEvent.ParticipantConnected, (participant) => say(`joined: ${describe(participant)}`))
  room.on(RoomEvent.ParticipantDisconnected, (participant) => say(`left: ${participant.identity}`))
  room.on(RoomEvent.TrackSubscribed, (_track, publication, participant) =>
    say(`track: ${participant.identity} publishes ${publication.name || 'a track'}`),
  )
  room.on(RoomEvent.DataReceived, (payload, participant, _kind, topic) => {
    // Data sent through LiveKit's server API has no participant.
    const from = participant?.identity ?? 'the server'
    say(`data: from ${from}${topic ? ` on ${topic}` : ''}: ${new TextDecoder().decode(payload)}`)
  })
  room.on(RoomEvent.Reconnecting, () => say('reconnecting'))
  room.on(RoomEvent.Reconnected, () => say('reconnected'))
  return new Promise((resolve) => room.once(RoomEvent.Disconnected, resolve))
}

/** Writes to the agent once it listens, and prints what it writes: LiveKit's agents use these topics. */
function chat(room: Room, words: string): void {
  room.registerTextStreamHandler('lk.transcription', async (reader, { identity }) =>
    say(`text: from ${identity}: ${await reader.readAll()}`),
  )
  let isWritten = false
  const write = ({ attributes }: Participant) => {
    if (isWritten || attributes['lk.agent.state'] !== 'listening') return
    isWritten = true
    void room.localParticipant?.sendText(words, { topic: 'lk.chat' })
  }
  room.on(RoomEvent.ParticipantAttributesChanged, (_changed, participant) => write(participant))
  for (const participant of room.remoteParticipants.values()) write(participant)
}

/** The SDK retries a wrong URL for a long time; this fails sooner. */
async function connect(room: Room, url: string, token: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_, reject) => {
    const tooLate = () => reject(new Error(`no answer within ${CONNECT_SECONDS} seconds`))
    timer = setTimeout(tooLate, CONNECT_SECONDS * 1000)
  })
  try {
    await Promise.race([room.connect(url, token, { autoSubscribe: true, dynacast: false }), timeout])
  } finally {
    clearTimeout(timer)
  }
}

async function publishTone(room: Room, signal: AbortSignal): Promise<void> {
  const source = new AudioSource(SAMPLE_RATE, 1)
  const track = LocalAudioTrack.createAudioTrack('microphone', source)
  const options = new TrackPublishOptions({ source: TrackSource.SOURCE_MICROPHONE })
  await room.localParticipant?.publishTrack(track, options)
  say(`publishing: microphone (a ${TONE_HERTZ} Hz tone)`)
  let sample = 0
  while (!signal.aborted) {
    const frame = AudioFrame.create(SAMPLE_RATE, 1, FRAME_SAMPLES)
    for (let i = 0; i < FRAME_SAMPLES; i++, sample++) {
      frame.data[i] = Math.round(TONE_AMPLITUDE * Math.sin((2 * Math.PI * TONE_HERTZ * sample) / SAMPLE_RATE))
    }
    // Waits while the source's queue is full, so the tone keeps the pace of real time.
    await source.captureFrame(frame)
  }
}

/** @returns the exit code: 0 after Ctrl-C, 1 if LiveKit ended the connection or it failed. */
async function main(): Promise<number> {
  const { token, url, words } = readArguments()
  const room = new Room()
  const over = watch(room)
  const stopped = new Promise<'stop'>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve('stop'))
  })

  try {
    await connect(room, url, token)
  } catch (error) {
    throw new Error(`Could not join at ${url}: ${error instanceof Error ? error.message : String(error)}`)
  }
  const self = room.localParticipant
  say(`connected: room ${room.name} as ${self ? describe(self) : 'an unknown participant'}`)
  for (const participant of room.remoteParticipants.values()) say(`already here: ${describe(participant)}`)
  if (words !== undefined) chat(room, words)

  const tone = new AbortController()
  const publishing = publishTone(room, tone.signal).catch((error: unknown) => {
    if (!tone.signal.aborted) say(`publishing failed: ${error instanceof Error ? error.message : String(error)}`)
  })
  const outcome = await Promise.race([over, stopped])
  tone.abort()
  if (outcome !== 'stop') {
    say(`disconnected: ${DisconnectReason[outcome]}`)
    return 1
  }
  await room.disconnect()
  await publishing
  say('disconnected: left')
  return 0
}

let code = 1
try {
  code = await main()
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error))
}
await dispose()
process.exit(code)
