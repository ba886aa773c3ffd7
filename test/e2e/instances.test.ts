import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { dispose } from '@livekit/rtc-node'
import { AgentDispatchClient } from 'livekit-server-sdk'
import { afterAll, beforeAll, describe, expect, onTestFailed, test } from 'vitest'
import { createAgentAccounts } from '../../src/agent/accounts.ts'
import { DEFAULT_SCOPES } from '../../src/auth/scopes.ts'
import { openStore } from '../../src/store/store.ts'
import { balancer } from '../faults/balancer.ts'
import { type PostgresServer, postgresBin, startPostgres } from '../postgres-server.ts'
import { apiAt } from './api.ts'
import { liveKitServer, WORKER_FOLDER, workerInstalled } from './binaries.ts'
import { type LiveKitServer, liveKit } from './livekit-server.ts'
import { join as joinRoom, type RtcParticipant } from './participant.ts'
import { freeTcpPort, type RunningProcess, run, until } from './processes.ts'
import { type Service, service } from './service.ts'

const isMissing = !liveKitServer() || !workerInstalled() || postgresBin() === null
if (isMissing) console.log('skipped: no livekit-server, no worker or no PostgreSQL server')

describe.skipIf(isMissing && process.env.BEHALF_REQUIRE_ALL !== '1')('two instances with a real LiveKit', () => {
  let folder: string
  let postgres: PostgresServer
  let livekit: LiveKitServer
  let front: Awaited<ReturnType<typeof balancer>>
  let a: Service
  let b: Service
  let worker: RunningProcess | undefined
  const participants: RtcParticipant[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'behalf-e2e-'))
    postgres = await startPostgres()
    const ports = [await freeTcpPort(), await freeTcpPort()]
    front = await balancer(ports.map((port) => `http://127.0.0.1:${port}`))
    livekit = await liveKit({ folder, webhookUrl: `${front.url}/livekit/webhook` })
    await livekit.start()
    const env = { PUBLIC_URL: front.url, RECONCILE_SECONDS: '2', REQUIRE_ASSIGNMENT: 'on' }
    const databaseUrl = postgres.url('postgres')
    const [first, second] = await Promise.all(
      ports.map((port) => service({ folder, port, livekitUrl: livekit.url, databaseUrl, env })),
    )
    a = first as Service
    b = second as Service
    await Promise.all([a.start(), b.start()])
  }, 120_000)

  afterAll(async () => {
    await worker?.stop('SIGINT')
    await Promise.all(participants.map((participant) => participant.leave()))
    front?.close()
    await Promise.all([a?.stop('SIGKILL'), b?.stop('SIGKILL')])
    await livekit?.kill()
    postgres?.remove()
    await dispose()
    await rm(folder, { recursive: true, force: true })
  })

  test('serve one call together, and go on when one of them is killed', async () => {
    onTestFailed(() => {
      for (const { log } of [a, b, livekit, ...(worker ? [worker] : [])]) console.log(log().slice(-4000))
    })
    const store = await openStore(a.databaseUrl, { keepsTime: false, poolSize: 1 })
    const { id, secret } = await createAgentAccounts(store).create('tutor-ts', DEFAULT_SCOPES)
    await store.close()
    worker = run(process.execPath, ['--import', 'tsx', 'worker.ts', 'start'], {
      cwd: WORKER_FOLDER,
      env: {
        LIVEKIT_URL: b.url.replace('http', 'ws'),
        LIVEKIT_API_KEY: id,
        LIVEKIT_API_SECRET: secret,
        BEHALF_URL: front.url,
        BEHALF_AGENT_ID: id,
        BEHALF_AGENT_SECRET: secret,
        AGENT_NAME: id,
        WORKER_PORT: String(await freeTcpPort()),
        PATIENCE_SECONDS: '60',
      },
    })
    const { log } = worker
    await until('the worker is registered', () => log().includes('registered worker'), 40)

    const atA = apiAt(a)
    const atB = apiAt(b)
    const user = await atA.register()
    // The room is there before the user, so that the dispatch is made by an instance.
    await atB.request('POST', '/rooms', { bearer: user.bearer, body: { room: 'lesson' } })
    const ticket = await atA.mint(user, { room: 'lesson', room_config: { agents: [{ agent_name: id }] } })
    const stream = await fetch(`${b.url}/sessions/${ticket.session_id}/events`, {
      headers: { Authorization: `Bearer ${user.bearer}`, Accept: 'text/event-stream' },
    })
    const streamed = stream.text().catch(String)
    const caller = await joinRoom(livekit.url, ticket.participant_token)
    participants.push(caller)
    const progress = async () => (await atB.events(user, ticket.session_id)).filter(({ type }) => type === 'progress')
    await until('the agent reports', async () => (await progress()).length > 1, 40)

    await a.stop('SIGKILL')
    const before = (await progress()).length
    await until('the agent goes on reporting', async () => (await progress()).length > before + 1, 40)
    await a.start()
    await until('and with both', async () => (await progress()).length > before + 3, 40)

    const agents = [...caller.room.remoteParticipants.keys()].filter((identity) => identity.startsWith('agent-'))
    expect(agents).toHaveLength(1)
    const dispatches = new AgentDispatchClient(livekit.url.replace('ws', 'http'), 'devkey', 'secret')
    // LiveKit makes one for agents without a name as well.
    const ofAgent = (await dispatches.listDispatch('lesson')).filter(({ agentName }) => agentName === id)
    expect(ofAgent).toHaveLength(1)

    const all = await atB.events(user, ticket.session_id)
    expect(all.map(({ seq }) => seq)).toEqual(all.map((_, i) => i + 1))
    expect(all.filter(({ type }) => type === 'agent.joined')).toHaveLength(1)
    expect(all.filter(({ type }) => type === 'agent.lost')).toHaveLength(0)
    await atA.end(user, ticket.session_id)
    expect(await caller.whenDisconnected).toMatch(/PARTICIPANT_REMOVED|ROOM_DELETED/)
    const seqs = [...(await streamed).matchAll(/^id: (\d+)$/gm)].map(([, seq]) => Number(seq))
    const last = await atB.events(user, ticket.session_id)
    expect(seqs).toEqual(last.map(({ seq }) => seq))
  }, 180_000)
})
