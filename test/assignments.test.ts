import { Job, JobStatus, JobTermination, Room, UpdateJobStatus } from '@livekit/protocol'
import { describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { ContextResponse } from '../src/agent/schemas.ts'
import { SCOPES } from '../src/auth/scopes.ts'
import { AuditEntryResponse } from '../src/sessions/json.ts'
import { agentToken } from './agent-client.ts'
import { refusal } from './scene.ts'
import { post, type TestClock, testClock } from './support.ts'
import {
  assign,
  connectWorker,
  register,
  serverMessage,
  workerMessage,
  workerScene,
  workerToken,
} from './worker-scene.ts'

/** A user in a session that names the agent `tutor`, and a registered worker of it. */
async function assignmentScene(env: Record<string, string> = {}, clock: TestClock = testClock()) {
  const w = await workerScene({ env, clock })
  const present = await w.s.present({ room_config: { agents: [{ agent_name: 'tutor' }] } })
  const worker = await w.registered()
  const { pair, room, user } = present
  const job = (id: string, more: Partial<Job> = {}) =>
    new Job({ id, room: new Room({ name: room }), attributes: { ...pair }, agentName: 'tutor', ...more })
  /** As the user sees them. */
  const events = async () =>
    (await w.s.eventsOf(user, pair))
      .filter(({ type }) => type.startsWith('agent.'))
      .map(({ type, data }) => ({ type, data }))
  /** LiveKit assigns the job, and the worker has it. */
  async function given(id: string, more: Partial<Job> = {}) {
    worker.atLiveKit.socket.send(assign(job(id, more)))
    await vi.waitFor(() =>
      expect(worker.messages()).toContainEqual(
        expect.objectContaining({
          case: 'assignment',
          value: expect.objectContaining({ job: expect.objectContaining({ id }) }),
        }),
      ),
    )
  }
  const says = (jobId: string, status: JobStatus) =>
    worker.socket.send(workerMessage({ case: 'updateJob', value: new UpdateJobStatus({ jobId, status }) }))
  const terminate = (jobId: string) =>
    worker.atLiveKit.socket.send(serverMessage({ case: 'termination', value: new JobTermination({ jobId }) }))
  const assignment = async () =>
    ContextResponse.parse(await (await w.s.context(w.agent.bearer, pair)).json()).assignment
  return { ...w, ...present, worker, job, given, says, terminate, events, assignment }
}

const joined = (jobId: string) => ({ type: 'agent.joined', data: { agentId: 'tutor', jobId } })
const lost = (jobId: string, reason: string) => ({ type: 'agent.lost', data: { agentId: 'tutor', jobId, reason } })

describe('a job that LiveKit gives to a worker', () => {
  test('is known to the agent and its user, with its end, and is in the audit trail', async () => {
    const { s, user, pair, given, says, events, assignment } = await assignmentScene()
    expect(await assignment()).toBeUndefined()
    await given('AJ_1')
    const running = { jobId: 'AJ_1', workerId: 'AW_1', assignedAt: new Date(s.clock.now()).toISOString() }
    expect(await assignment()).toEqual(running)
    expect(await events()).toEqual([joined('AJ_1')])
    s.clock.advance(5)
    says('AJ_1', JobStatus.JS_RUNNING)
    says('AJ_1', JobStatus.JS_SUCCESS)
    await vi.waitFor(async () => expect(await events()).toEqual([joined('AJ_1'), lost('AJ_1', 'finished')]))
    const endedAt = new Date(s.clock.now()).toISOString()
    expect(await assignment()).toEqual({ ...running, endedAt, end: 'finished' })
    const answer = await s.get(`/sessions/${pair.sessionId}/audit`, user.bearer)
    const { entries } = z.object({ entries: z.array(AuditEntryResponse) }).parse(await answer.json())
    const ofJob = entries.filter(({ route }) => route === 'job AJ_1')
    expect(ofJob.map(({ agentId, outcome }) => `${agentId} ${outcome}`).sort()).toEqual([
      'tutor assigned',
      'tutor finished',
    ])
  })

  test.each([
    ['failed', 'its worker says that it failed', JobStatus.JS_FAILED],
    ['left', 'LiveKit ends it', undefined],
  ] as const)('ends as %s when %s, once', async (reason, _, status) => {
    const { given, says, terminate, events } = await assignmentScene()
    await given('AJ_1')
    if (status === undefined) terminate('AJ_1')
    else says('AJ_1', status)
    await vi.waitFor(async () => expect(await events()).toEqual([joined('AJ_1'), lost('AJ_1', reason)]))
    terminate('AJ_1')
    says('AJ_1', JobStatus.JS_SUCCESS)
    await given('AJ_2')
    expect(await events()).toEqual([joined('AJ_1'), lost('AJ_1', reason), joined('AJ_2')])
  })

  test('ends as left when its account is disabled', async () => {
    const { s, room, given, events } = await assignmentScene()
    await given('AJ_1')
    s.sfu.enter(room, { identity: 'agent-AJ_1', kind: 'AGENT', attributes: { 'lk.agent_name': 'tutor' } })
    await s.accounts.disable('tutor')
    await s.reconcile()
    await s.reconcile()
    expect(await events()).toEqual([joined('AJ_1'), lost('AJ_1', 'left')])
    expect(s.sfu.rooms.get(room)?.participants.has('agent-AJ_1')).toBe(false)
  })

  test('reaches the worker once it is stored, since the worker may act on it at once', async () => {
    const { s, worker, job } = await assignmentScene()
    const { assign: store } = s.store.jobs
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    const asked = new Promise<void>((resolve) => {
      s.store.jobs.assign = async (...given) => {
        resolve()
        await released
        return store(...given)
      }
    })
    worker.atLiveKit.socket.send(assign(job('AJ_1')))
    await asked
    const answered = new Promise((resolve) => worker.socket.once('pong', resolve))
    worker.socket.ping()
    await answered
    expect(worker.frames).toHaveLength(1)
    release()
    await vi.waitFor(() => expect(worker.frames).toHaveLength(2))
  })

  test('goes on when its worker’s connection is lost, until another job takes its place', async () => {
    const { worker, registered, job, given, events, assignment } = await assignmentScene()
    await given('AJ_1')
    worker.socket.terminate()
    const next = await registered()
    expect(await assignment()).not.toHaveProperty('endedAt')
    next.atLiveKit.socket.send(assign(job('AJ_2')))
    await vi.waitFor(() => expect(next.frames).toHaveLength(2))
    expect(await events()).toEqual([joined('AJ_1'), lost('AJ_1', 'replaced'), joined('AJ_2')])
    expect(await assignment()).toMatchObject({ jobId: 'AJ_2', workerId: 'AW_2' })
  })

  test.each(['is gone', 'fails'])(
    'is dispatched again at once when its worker %s, without waiting for a comparison',
    async (what) => {
      const { s, worker, given, says } = await assignmentScene()
      await s.reconcile()
      await given('AJ_1')
      s.clock.advance(20)
      const before = s.sfu.asked('CreateDispatch')
      if (what === 'fails') says('AJ_1', JobStatus.JS_FAILED)
      else worker.socket.terminate()
      await vi.waitFor(() => expect(s.sfu.asked('CreateDispatch')).toBe(before + 1))
    },
  )

  test('that has ended needs no other when its worker goes', async () => {
    const { s, worker, given, says, events } = await assignmentScene()
    await s.reconcile()
    await given('AJ_1')
    says('AJ_1', JobStatus.JS_SUCCESS)
    await vi.waitFor(async () => expect(await events()).toHaveLength(2))
    const before = s.sfu.asked('ListRooms')
    worker.socket.terminate()
    await new Promise((resolve) => worker.atLiveKit.socket.once('close', resolve))
    await s.background.idle()
    expect(s.sfu.asked('ListRooms')).toBe(before)
  })

  test('counts for nothing if it is not of the session’s room or agent, or another account says that it ended', async () => {
    const { s, url, livekit, pair, given, events } = await assignmentScene()
    await given('AJ_1', { room: new Room({ name: 'another' }) })
    await given('AJ_2', { attributes: { sessionId: 'sess_x' } })
    await given('AJ_3', { attributes: {} })
    // The client may have written this.
    await given('AJ_4', { attributes: {}, metadata: JSON.stringify(pair) })
    expect(await events()).toEqual([])
    await given('AJ_5')
    const other = await s.newAgent('other')
    const stranger = connectWorker(url, await workerToken('other', other.secret))
    await stranger.outcome
    stranger.socket.send(register('other'))
    const end = new UpdateJobStatus({ jobId: 'AJ_5', status: JobStatus.JS_SUCCESS })
    stranger.socket.send(workerMessage({ case: 'updateJob', value: end }))
    await vi.waitFor(() => expect(livekit.registered.at(-1)?.messages).toHaveLength(2))
    await s.background.idle()
    expect(await events()).toEqual([joined('AJ_5')])
  })

  test('is no event that an agent can make up', async () => {
    const { s, agent, pair } = await assignmentScene()
    const answer = await post(s.app, '/agent/progress', { ...pair, type: 'agent.joined', data: {} }, agent.bearer)
    expect(answer.status).toBe(422)
  })
})

describe('with REQUIRE_ASSIGNMENT=on', () => {
  const on = (more: Record<string, string> = {}, clock: TestClock = testClock()) =>
    assignmentScene({ REQUIRE_ASSIGNMENT: 'on', ...more }, clock)
  const refused = { status: 403, code: 'no_assignment' }

  test('only the account that was given the session’s job acts, from its assignment until its end', async () => {
    const { s, agent, pair, given, terminate } = await on()
    const other = await s.newAgent('other', SCOPES)
    expect(await refusal(s.progress(agent.bearer, pair))).toEqual(refused)
    await given('AJ_1')
    expect((await s.progress(agent.bearer, pair)).status).toBe(201)
    expect((await s.context(agent.bearer, pair)).status).toBe(200)
    expect(await refusal(s.progress(other.bearer, pair))).toEqual(refused)
    expect(await refusal(s.context(other.bearer, pair))).toEqual(refused)
    expect(await refusal(s.end(other.bearer, pair))).toEqual(refused)
    terminate('AJ_1')
    await vi.waitFor(async () => expect(await refusal(s.progress(agent.bearer, pair))).toEqual(refused))
    const outcomes = (await s.store.audit.ofSession(pair.sessionId, 50)).map(
      ({ agentId, outcome }) => `${agentId} ${outcome}`,
    )
    expect(outcomes).toEqual(expect.arrayContaining(['tutor no_assignment', 'other no_assignment', 'tutor allowed']))
  })

  test('the account may wrap up for WRAP_UP_SECONDS after the end, and nothing else', async () => {
    const { s, agent, pair, given, terminate } = await on({ WRAP_UP_SECONDS: '30' })
    await given('AJ_1')
    terminate('AJ_1')
    await vi.waitFor(async () => expect(await refusal(s.context(agent.bearer, pair))).toEqual(refused))
    s.clock.advance(29)
    expect((await s.progress(agent.bearer, pair)).status).toBe(201)
    s.clock.advance(2)
    expect(await refusal(s.progress(agent.bearer, pair))).toEqual(refused)
  })

  test('the time to wrap up ends early by as much as another instance’s time may be ahead', async () => {
    const clock = { ...testClock(), behind: () => 2000 }
    const { s, agent, pair, given, terminate } = await on({ WRAP_UP_SECONDS: '30' }, clock)
    await given('AJ_1')
    terminate('AJ_1')
    await vi.waitFor(async () => expect(await refusal(s.context(agent.bearer, pair))).toEqual(refused))
    s.clock.advance(27)
    expect((await s.progress(agent.bearer, pair)).status).toBe(201)
    s.clock.advance(1)
    expect(await refusal(s.progress(agent.bearer, pair))).toEqual(refused)
  })

  test('a join token for the room is only for the account that has the job', async () => {
    const { s, room, given } = await on()
    const all = await s.newAgent('other', SCOPES)
    await s.accounts.set('tutor', { scopes: [...SCOPES] })
    const { secret } = await s.accounts.rekey('tutor', 60_000)
    const bearer = await agentToken(s.app, { id: 'tutor', secret })
    const ask = (token: string) => post(s.app, '/token', { room }, token)
    expect(await refusal(ask(bearer))).toEqual({ status: 404, code: 'room_not_found' })
    await given('AJ_1')
    expect((await ask(bearer)).status).toBe(201)
    expect(await refusal(ask(all.bearer))).toEqual({ status: 404, code: 'room_not_found' })
  })

  test('a restart of the service in the middle of a job changes nothing', async () => {
    const { s, agent, pair, given } = await on()
    await given('AJ_1')
    await s.gateway.close()
    expect((await s.progress(agent.bearer, pair)).status).toBe(201)
  })
})
