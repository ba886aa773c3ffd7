import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import {
  AudioFrame,
  AudioSource,
  LocalAudioTrack,
  type Room,
  TrackPublishOptions,
  TrackSource,
} from '@livekit/rtc-node'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { agentPython, PYTHON_PACKAGE, REPOSITORY, WORKER_FOLDER, workerInstalled } from './binaries.ts'
import { freeTcpPort, type RunningProcess, run, until } from './processes.ts'
import { describeWithLiveKit, useStack } from './stack.ts'
import { buildWheel, pip } from './wheel.ts'

const SAMPLE_RATE = 48_000
const TSX = import.meta.resolve('tsx')
const python = agentPython()

// The agents as the READMEs show them, with a real livekit-server and a model that needs no keys.
describeWithLiveKit('the examples of a function tool', () => {
  const stack = useStack({
    program: ['--import', TSX, joinPath(REPOSITORY, 'examples/your-route/server.ts')],
    env: { ORDERS_FILE: ':memory:' },
  })
  let folder: string
  let model: RunningProcess
  let modelUrl: string
  let worker: RunningProcess | undefined

  beforeAll(async () => {
    folder = await mkdtemp(joinPath(tmpdir(), 'behalf-tool-'))
    const port = await freeTcpPort()
    modelUrl = `http://127.0.0.1:${port}`
    const file = joinPath(REPOSITORY, 'examples/stub-models.ts')
    model = run(process.execPath, ['--import', TSX, file], { env: { STUB_MODELS_PORT: String(port) } })
    await until('the model answers', async () => (await fetch(modelUrl)).ok)
  })
  afterEach(async ({ task }) => {
    await worker?.stop('SIGINT')
    if (task.result?.state === 'fail') console.log(`--- the worker's log\n${worker?.log()}\n${model.log()}`)
    worker = undefined
  })
  afterAll(async () => {
    await model?.stop()
    await rm(folder, { recursive: true, force: true })
  })

  /** The example in packages/python/README.md, alone in a folder, with the wheel. */
  async function inPython() {
    const readme = await readFile(joinPath(PYTHON_PACKAGE, 'README.md'), 'utf8')
    const [, example = ''] = readme.match(/```python\n([\s\S]*?)```/) ?? []
    await writeFile(joinPath(folder, 'agent.py'), example)
    const site = joinPath(folder, 'site')
    await pip(python ?? '', 'install', '--quiet', '--no-deps', '--target', site, await buildWheel(python ?? '', folder))
    return { command: [python ?? '', 'agent.py'], cwd: folder, env: { PYTHONPATH: site } }
  }
  const inTypeScript = async () => ({
    command: [process.execPath, '--import', 'tsx', 'tool.ts'],
    cwd: WORKER_FOLDER,
    env: {},
  })

  describe.each([
    { language: 'TypeScript', isHere: workerInstalled(), example: inTypeScript },
    { language: 'Python', isHere: python !== undefined, example: inPython },
  ])('$language', ({ language, isHere, example }) => {
    test.skipIf(!isHere)(
      'orders for its user by voice, and says why an order is refused',
      async () => {
        const { api, join } = stack()
        const agent = await api.agent(`waiter-${language.toLowerCase()}`)
        const { command, cwd, env } = await example()
        const [program = '', ...args] = command
        // In `dev` mode it takes jobs even on a busy machine, and any free port for its own health.
        worker = run(program, [...args, 'dev'], {
          cwd,
          env: {
            ...env,
            BEHALF_URL: api.url,
            BEHALF_AGENT_ID: agent.id,
            BEHALF_AGENT_SECRET: agent.secret,
            LIVEKIT_URL: api.url,
            LIVEKIT_API_KEY: agent.id,
            LIVEKIT_API_SECRET: agent.secret,
            LIVEKIT_INFERENCE_URL: modelUrl,
          },
        })
        const { log } = worker
        await until('the worker is registered', () => log().includes('registered worker'), 40)

        const user = await api.register()
        const ticket = await api.mint(user, { room_config: { agents: [{ agent_name: agent.id }] } })
        const { room } = await join(ticket.token, { audio: false })
        const hears = listen(room)
        await until('the agent listens', () => agentState(room) === 'listening', 40)

        await speak(room)
        expect(await hears(1)).toMatch(/Order \d+ is placed\./)
        await write(room, 'x'.repeat(201))
        expect(await hears(2)).toBe('The request is not valid: item.')

        const audit = await api.request('GET', `/sessions/${ticket.session_id}/audit`, { bearer: user.bearer })
        expect(audit.body).toMatchObject({
          entries: [
            { agentId: agent.id, route: 'POST /agent/orders', outcome: 'allowed', count: 1 },
            { agentId: agent.id, outcome: 'assigned' },
          ],
        })
      },
      120_000,
    )
  })
})

const agentState = (room: Room) =>
  [...room.remoteParticipants.values()].map(({ attributes }) => attributes['lk.agent.state']).find(Boolean)

/** Two seconds of sound, then one of silence. */
async function speak(room: Room): Promise<void> {
  const source = new AudioSource(SAMPLE_RATE, 1)
  const options = new TrackPublishOptions({ source: TrackSource.SOURCE_MICROPHONE })
  await room.localParticipant?.publishTrack(LocalAudioTrack.createAudioTrack('microphone', source), options)
  const sound = AudioFrame.create(SAMPLE_RATE, 1, 2 * SAMPLE_RATE)
  sound.data.forEach((_, i) => {
    sound.data[i] = Math.round(600 * Math.sin((2 * Math.PI * 440 * i) / SAMPLE_RATE))
  })
  await source.captureFrame(sound)
  await source.captureFrame(AudioFrame.create(SAMPLE_RATE, 1, SAMPLE_RATE))
}

const write = (room: Room, text: string) => room.localParticipant?.sendText(text, { topic: 'lk.chat' })

/** What the agent says; the returned function waits for so many sentences and answers with the last. */
function listen(room: Room) {
  const said: string[] = []
  room.registerTextStreamHandler('lk.transcription', async (reader, { identity }) => {
    // What the user said comes as text, too.
    if (identity !== room.localParticipant?.identity) said.push(await reader.readAll())
  })
  return (count: number) => until(`the agent says ${count} sentences`, () => said[count - 1], 30)
}
