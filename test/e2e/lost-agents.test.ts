import { afterEach, describe, expect, test } from 'vitest'
import type { Agent } from './api.ts'
import { WORKER_FOLDER, workerInstalled } from './binaries.ts'
import { freeTcpPort, type RunningProcess, run, until } from './processes.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

/** livekit.ParticipantInfo.Kind */
const AGENT = 4

interface Killed {
  /** Where the workers connect: to the service, or to LiveKit with its secret. */
  through: 'gateway' | 'livekit'
  /** What `kill -9` hits: the worker with its job's process, or the worker alone. */
  kill: 'group' | 'worker'
}

// The settings that decide about the times are the defaults.
describeWithLiveKit('an agent', () => {
  const stack = useStack()
  let processes: RunningProcess[] = []
  afterEach(async ({ task }) => {
    await Promise.all(processes.map((process) => process.stop('SIGKILL')))
    if (task.result?.state === 'fail') for (const { log } of processes) console.log(`--- a worker's log\n${log()}`)
    processes = []
  })

  async function startWorker({ id, secret }: Agent, through: Killed['through'], reportSeconds = 1) {
    const { api, livekit } = stack()
    const gateway = { LIVEKIT_URL: api.url.replace('http', 'ws'), LIVEKIT_API_KEY: id, LIVEKIT_API_SECRET: secret }
    const worker = run(process.execPath, ['--import', 'tsx', 'worker.ts', 'start'], {
      cwd: WORKER_FOLDER,
      env: {
        BEHALF_URL: api.url,
        BEHALF_AGENT_ID: id,
        BEHALF_AGENT_SECRET: secret,
        ...(through === 'gateway' ? gateway : { LIVEKIT_URL: livekit.url }),
        WORKER_PORT: String(await freeTcpPort()),
        REPORT_SECONDS: String(reportSeconds),
      },
    })
    processes.push(worker)
    await until('the worker is registered', () => worker.log().includes('registered worker'), 40)
    return worker
  }

  /** A user in a call with the agent of a stock worker; `agents` are the identities of those in the room now. */
  async function call(agentName: string, through: Killed['through'], reportSeconds?: number) {
    const { api, join, rooms } = stack()
    const agent = await api.agent(agentName)
    const worker = await startWorker(agent, through, reportSeconds)
    const user = await api.guest()
    const { session_id, room, token } = await api.mint(user, { room_config: { agents: [{ agent_name: agentName }] } })
    await join(token)
    const agents = async () =>
      (await rooms.listParticipants(room)).filter(({ kind }) => Number(kind) === AGENT).map(({ identity }) => identity)
    /** When that agent last reported, or undefined. */
    const lastReport = async (identity: string) => {
      const events = await api.events(user, session_id)
      const own = events.filter(({ data }) => identity.endsWith((data as { job?: string }).job ?? '-'))
      return own.length > 0 ? Math.max(...own.map(({ createdAt }) => Date.parse(createdAt))) : undefined
    }
    const [identity = ''] = await until('an agent is there', async () => (await agents()).length > 0 && agents(), 40)
    await until('the agent reports', () => lastReport(identity), 40)
    return { agent, worker, user, session_id, agents, identity, lastReport }
  }

  describe.skipIf(!workerInstalled())('of a stock worker', () => {
    /** A call, and another worker of the agent that is idle. */
    async function prepared(how: Killed) {
      const called = await call(`lost-${how.through}-${how.kill}`, how.through)
      await startWorker(called.agent, how.through)
      return { ...called, ...how }
    }

    /** Kills the worker. The times are in seconds after that. */
    async function killed({
      through,
      kill,
      worker,
      agents,
      identity,
      lastReport,
    }: Awaited<ReturnType<typeof prepared>>) {
      const killedAt = Date.now()
      const seconds = (at: number) => (at - killedAt) / 1000
      process.kill((kill === 'group' ? -1 : 1) * (worker.pid ?? Number.NaN), 'SIGKILL')
      let most = 0
      const seen = async () => {
        const now = await agents()
        most = Math.max(most, now.length)
        return now
      }
      await until('LiveKit notices', async () => !(await seen()).includes(identity), 60)
      const noticed = seconds(Date.now())
      await until('a new agent is there', async () => (await seen()).length > 0, 60)
      const replaced = seconds(Date.now())
      const reported = seconds((await lastReport(identity)) ?? Number.NaN)
      return { through, kill, noticed, replaced, reported, most }
    }

    test('that is killed in mid-call is replaced within seconds of LiveKit’s notice, and never before it', async () => {
      // One after the other: a job's process has 10 s to start, whatever else this machine does.
      const calls = [
        await prepared({ through: 'gateway', kill: 'group' }),
        await prepared({ through: 'livekit', kill: 'group' }),
        // The job's process runs on for up to 15 s: a new agent before that would be the user's second.
        await prepared({ through: 'gateway', kill: 'worker' }),
      ]
      const all = await Promise.all(calls.map(killed))
      for (const { kill, noticed, replaced, reported, most } of all) {
        expect(most).toBe(1)
        expect(replaced).toBeLessThan(noticed + (kill === 'group' ? 5 : 10))
        expect(replaced).toBeLessThan(40)
        if (kill === 'worker') expect(reported).toBeGreaterThan(5)
      }
    }, 240_000)

    test('leaves the room within seconds when a command disables its account, and the user stays', async () => {
      const { api, service } = stack()
      // A refused callback would make it leave by itself.
      const { agent, user, session_id, agents } = await call('disabled', 'gateway', 600)
      await api.command('agent', 'disable', agent.id)
      await until('the agent has left', async () => (await agents()).length === 0, 10)
      expect(await api.session(user, session_id)).toMatchObject({ status: 'live' })
      await until('the user is told', async () =>
        (await api.events(user, session_id)).some(({ type }) => type === 'agent.lost'),
      )
      expect(service.log()).not.toContain('failed')
    }, 90_000)
  })
})
