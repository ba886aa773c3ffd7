import { afterEach, expect, test } from 'vitest'
import { z } from 'zod'
import type { Agent } from './api.ts'
import { REPOSITORY, WORKER_FOLDER, workerInstalled } from './binaries.ts'
import { freeTcpPort, type RunningProcess, run, until } from './processes.ts'
import { describeWithLiveKit, type Stack, useStack } from './stack.ts'

const Report = z.object({ step: z.number(), heard: z.number(), message: z.string() })

describeWithLiveKit('examples/agent-ts', () => {
  const stack = useStack()
  let processes: RunningProcess[] = []
  afterEach(async ({ task }) => {
    await Promise.all(processes.map((process) => process.stop('SIGINT')))
    if (task.result?.state === 'fail') for (const { log } of processes) console.log(`--- an example's log\n${log()}`)
    processes = []
  })

  async function startWorker({ api, livekit }: Stack, { id, secret }: Agent) {
    const worker = run(process.execPath, ['--import', 'tsx', 'worker.ts', 'start'], {
      cwd: WORKER_FOLDER,
      env: {
        BEHALF_URL: api.url,
        BEHALF_AGENT_ID: id,
        BEHALF_AGENT_SECRET: secret,
        LIVEKIT_URL: livekit.url,
        LIVEKIT_API_KEY: 'devkey',
        LIVEKIT_API_SECRET: 'secret',
        WORKER_PORT: String(await freeTcpPort()),
        PATIENCE_SECONDS: '5',
      },
    })
    processes.push(worker)
    await says(worker, 'registered worker', 40)
    return worker
  }

  /** A user who speaks (a tone) until stopped. */
  function call(token: string): RunningProcess {
    const { livekit } = stack()
    const caller = run('npm', ['run', 'join', '--', token, '--url', livekit.url], { cwd: REPOSITORY })
    processes.push(caller)
    return caller
  }

  test.skipIf(!workerInstalled())(
    'completes calls: reads job metadata and context, reports progress, and logs the refusal after the hang-up',
    async () => {
      const { api } = stack()
      const agent = await api.agent('tutor')
      const worker = await startWorker(stack(), agent)
      const user = await api.register()
      const agents = { room_config: { agents: [{ agent_name: 'tutor' }] } }

      // One who hangs up: the agent is refused, and stops when they do not come back.
      const left = await api.mint(user, agents)
      const leaver = call(left.token)
      await says(worker, new RegExp(`${left.session_id}\\] progress \\d+: accepted, heard [1-9]`), 40)
      await until('the caller hears of the tone', () => /track: agent-AJ_\w+ publishes/.test(leaver.log()))
      await leaver.stop('SIGINT')
      await says(worker, `${left.session_id}] refused: 409 session_not_live: The user is not in the room now. Stopping`)

      // One whose page ends the session while they are in the room: the agent learns that it has ended.
      const ended = await api.mint(user, agents)
      call(ended.token)
      await says(worker, new RegExp(`${ended.session_id}\\] progress 2: accepted`), 40)
      await api.end(user, ended.session_id)
      await says(worker, `${ended.session_id}] refused: 409 session_ended: The session has ended`)

      const lines = worker.log().split('\n')
      for (const { session_id, room } of [left, ended]) {
        const prefix = `[tutor ${session_id}] `
        const said = lines.flatMap((line) => (line.startsWith(prefix) ? line.slice(prefix.length) : []))
        expect(said[0]).toMatch(/^job AJ_\w+ for user /)
        expect(said[0]).toContain(`for user ${user.id} in room ${room}`)
        const steps = ['the user is here', 'hello, Ada', 'progress 1: accepted', 'refused']
        const at = steps.map((step) => said.findIndex((line) => line.startsWith(step)))
        expect(at).not.toContain(-1)
        expect(at).toEqual(at.toSorted((a, b) => a - b))
        expect(said.at(-1)).toMatch(/^refused: .* Stopping after \d+ reports, heard [\d.]+ s$/)

        // What it says was accepted is what the session has, each once, and nothing after the hang-up.
        const events = await api.events(user, session_id)
        const reports = events.flatMap(({ type, data }) => (type === 'progress' ? [Report.parse(data)] : []))
        const accepted = said.filter((line) => /^progress \d+: accepted/.test(line)).length
        expect(reports.map(({ step }) => step)).toEqual(Array.from({ length: accepted }, (_, i) => i + 1))
        expect(events.at(-1)?.type).toBe('session.status')
      }
      const [lastReport] = (await api.events(user, left.session_id)).filter(({ type }) => type === 'progress').slice(-1)
      expect(Report.parse(lastReport?.data).heard).toBeGreaterThan(0.9)
    },
    150_000,
  )
})

const says = (worker: RunningProcess, line: string | RegExp, seconds?: number) =>
  until(
    `it says ${line}`,
    () => (typeof line === 'string' ? worker.log().includes(line) : line.test(worker.log())),
    seconds,
  )
