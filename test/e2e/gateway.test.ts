import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { Agent } from './api.ts'
import { agentPython, REPOSITORY, WORKER_FOLDER, workerInstalled } from './binaries.ts'
import { freeTcpPort, type RunningProcess, run, until } from './processes.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

const python = agentPython()
const WORKERS = [
  {
    sdk: 'TypeScript',
    agentName: 'tutor-ts',
    cwd: WORKER_FOLDER,
    command: workerInstalled() ? [process.execPath, '--import', 'tsx', 'worker.ts', 'start'] : undefined,
  },
  {
    sdk: 'Python',
    agentName: 'tutor-python',
    cwd: join(REPOSITORY, 'test/e2e'),
    command: python ? [python, '-B', 'stock_worker.py', 'start'] : undefined,
  },
]

describeWithLiveKit('workers that have no secret of LiveKit’s', () => {
  const stack = useStack({ env: { REQUIRE_ASSIGNMENT: 'on' } })
  let processes: RunningProcess[] = []
  afterEach(async ({ task }) => {
    await Promise.all(processes.map((process) => process.stop('SIGINT')))
    if (task.result?.state === 'fail') for (const { log } of processes) console.log(`--- a worker's log\n${log()}`)
    processes = []
  })

  /** The whole environment of a worker: its account's id and secret are all that it has. */
  async function environment({ id, secret }: Agent) {
    const { api } = stack()
    return {
      LIVEKIT_URL: api.url.replace('http', 'ws'),
      LIVEKIT_API_KEY: id,
      LIVEKIT_API_SECRET: secret,
      BEHALF_URL: api.url,
      BEHALF_AGENT_ID: id,
      BEHALF_AGENT_SECRET: secret,
      AGENT_NAME: id,
      WORKER_PORT: String(await freeTcpPort()),
      PATIENCE_SECONDS: '60',
    }
  }

  function call(token: string): RunningProcess {
    const caller = run('npm', ['run', 'join', '--', token, '--url', stack().livekit.url], { cwd: REPOSITORY })
    processes.push(caller)
    return caller
  }

  for (const { sdk, agentName, cwd, command } of WORKERS) {
    describe.skipIf(!command)(`with LiveKit’s SDK for ${sdk} as it is`, () => {
      test('take a job through the gateway, act for the user, and go on when the service is killed in mid-call', async () => {
        const { api, service, livekit } = stack()
        const agent = await api.agent(agentName)
        const env = await environment(agent)
        // livekit.yaml: devkey: secret
        for (const value of Object.values(env)) expect(['secret', 'devkey', livekit.url]).not.toContain(value)
        const [program = '', ...args] = command ?? []
        const worker = run(program, args, { cwd, env })
        processes.push(worker)
        await says(worker, 'registered worker', 40)

        const user = await api.register()
        const agents = { room_config: { agents: [{ agent_name: agentName }] } }
        const { session_id, token } = await api.mint(user, agents)
        const caller = call(token)
        await says(worker, new RegExp(`${session_id}\\] progress 2: accepted`), 40)
        await until('the agent is in the room itself', () => /agent-AJ_\w+/.test(caller.log()))
        const registrations = worker.log().split('registered worker').length

        await service.stop('SIGKILL')
        const reports = async () =>
          (await api.events(user, session_id)).filter(({ type }) => type === 'progress').length
        await service.start()
        const before = await reports()
        await until('the job reports again', async () => (await reports()) > before + 1, 40)
        await until(
          'the worker is registered again',
          () => worker.log().split('registered worker').length > registrations,
          40,
        )

        const next = await api.mint(await api.register(), agents)
        call(next.token)
        await says(worker, new RegExp(`${next.session_id}\\] progress 1: accepted`), 40)

        await api.end(user, session_id)
        await says(worker, new RegExp(`${session_id}\\] refused: 409 session_ended`))
      }, 180_000)
    })
  }

  test('cannot use their secret with LiveKit itself', async () => {
    const { api, livekit } = stack()
    const { id, secret } = await api.agent('tutor')
    const { RoomServiceClient } = await import('livekit-server-sdk')
    await expect(new RoomServiceClient(livekit.url, id, secret).listRooms()).rejects.toMatchObject({ status: 401 })
  })
})

const says = (worker: RunningProcess, line: string | RegExp, seconds?: number) =>
  until(
    `it says ${line}`,
    () => (typeof line === 'string' ? worker.log().includes(line) : line.test(worker.log())),
    seconds,
  )
