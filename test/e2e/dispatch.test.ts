import { afterEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { Agent, Api, User } from './api.ts'
import { WORKER_FOLDER, workerInstalled } from './binaries.ts'
import { freeTcpPort, type RunningProcess, run, until } from './processes.ts'
import { describeWithLiveKit, type Stack, useStack } from './stack.ts'

const Work = z.object({ status: z.literal('working'), step: z.number(), job: z.string() })

// The real @livekit/agents worker of examples/agent-ts: its job processes take seconds to start.
describeWithLiveKit('a dispatched worker', () => {
  const stack = useStack({ env: { RECONCILE_SECONDS: '2' } })
  let worker: RunningProcess | undefined
  afterEach(async ({ task }) => {
    await worker?.stop('SIGINT')
    if (task.result?.state === 'fail') console.log(`--- the worker's log\n${worker?.log()}`)
    worker = undefined
  })

  describe.skipIf(!workerInstalled())('examples/agent-ts', () => {
    test('learns the user and session from its job when the token dispatches it, and calls back', async () => {
      const { api, join } = stack()
      const agent = await api.agent('tutor')
      worker = await startWorker(stack(), agent)
      const user = await api.guest()
      const ticket = await api.mint(user, {
        room_config: { agents: [{ agent_name: 'tutor', metadata: '{"level":3}' }] },
      })
      const speaker = await join(ticket.token)

      const [job] = await jobsOf(api, user, ticket.session_id)
      expect(job).toMatch(/^AJ_/)
      expect(worker.log()).toContain(`for user ${user.id} in room ${ticket.room}`)

      await speaker.leave()
      await api.end(user, ticket.session_id)
      const log = worker.log
      await until('the worker stops', () => log().includes('refused: 409 session_ended'))
    }, 90_000)

    test('gets its job even if it starts after the user joined', async () => {
      const { api, join } = stack()
      const agent = await api.agent('latecomer')
      const user = await api.guest()
      const ticket = await api.mint(user, { room_config: { agents: [{ agent_name: 'latecomer' }] } })
      await join(ticket.token)
      await api.untilStatus(user, ticket.session_id, 'live')
      worker = await startWorker(stack(), agent)

      const [job] = await jobsOf(api, user, ticket.session_id)
      expect(job).toMatch(/^AJ_/)
      expect(worker.log()).toContain(`for user ${user.id} in room ${ticket.room}`)
    }, 90_000)

    test('gets a job for each session in a room that existed before, with that session’s ids', async () => {
      const { api, join } = stack()
      const agent = await api.agent('coach')
      worker = await startWorker(stack(), agent)
      const user = await api.guest()
      const created = await api.request('POST', '/rooms', { bearer: user.bearer, body: { room: 'lesson-one' } })
      expect(created.status).toBe(201)
      const again = await api.request('POST', '/rooms', { bearer: user.bearer, body: { room: 'lesson-one' } })
      expect(again.status).toBe(200)

      const body = { room_name: 'lesson-one', room_config: { agents: [{ agent_name: 'coach' }] } }
      const first = await api.mint(user, body)
      await join(first.token)
      const [firstJob] = await jobsOf(api, user, first.session_id)

      const second = await api.mint(user, body)
      await join(second.token)
      const [secondJob] = await jobsOf(api, user, second.session_id)
      expect(secondJob).not.toBe(firstJob)
      // Neither job ever wrote into the other one's session.
      expect(await jobsOf(api, user, first.session_id)).toEqual([firstJob])
      expect(await jobsOf(api, user, second.session_id)).toEqual([secondJob])
    }, 90_000)
  })
})

async function startWorker({ api, livekit }: Stack, { id, secret }: Agent): Promise<RunningProcess> {
  const started = run(process.execPath, ['--import', 'tsx', 'worker.ts', 'start'], {
    cwd: WORKER_FOLDER,
    env: {
      BEHALF_URL: api.url,
      BEHALF_AGENT_ID: id,
      BEHALF_AGENT_SECRET: secret,
      LIVEKIT_URL: livekit.url,
      WORKER_PORT: String(await freeTcpPort()),
      REPORT_SECONDS: '1',
    },
  })
  await until('the worker is registered', () => started.log().includes('registered worker'), 30).catch((error) => {
    throw new Error(`the worker did not start:\n${started.log()}`, { cause: error })
  })
  return started
}

/** The jobs that reported into the session; waits for the first. */
const jobsOf = (api: Api, user: User, sessionId: string) =>
  until(
    'progress of a job shows in the events',
    async () => {
      const events = await api.events(user, sessionId)
      const jobs = new Set(events.flatMap(({ data }) => Work.safeParse(data).data?.job ?? []))
      return jobs.size > 0 && [...jobs]
    },
    40,
  )
