import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Job } from '@livekit/protocol'
import { expect, test } from 'vitest'
import type { Api, Ticket } from '../e2e/api.ts'
import { until } from '../e2e/processes.ts'
import { type Sfu, webhookEvent, webhookToken } from '../sfu.ts'
import type { Leg } from '../sfu-rooms.ts'
import { assign, connectWorker, livekitWorkers, register, workerToken } from '../worker-scene.ts'
import { describeWithPostgres, LIVEKIT_KEY, useInstances } from './instances.ts'

/** LiveKit's webhook, sent to that instance. */
export async function deliver({ url }: Pick<Api, 'url'>, event: string, leg: Leg): Promise<number> {
  const body = JSON.stringify({ ...webhookEvent(event, leg), id: `EV_${randomUUID()}` })
  const Authorization = await webhookToken(body, { ...LIVEKIT_KEY, at: Date.now() })
  const headers = { Authorization, 'Content-Type': 'application/webhook+json' }
  const answer = await fetch(`${url}/livekit/webhook`, { method: 'POST', headers, body })
  await answer.arrayBuffer()
  return answer.status
}

const TUTOR = { room_config: { agents: [{ agent_name: 'tutor' }] } }

const dispatchesOf = (sfu: Sfu, { room_name, session_id }: Ticket) =>
  (sfu.rooms.get(room_name)?.dispatches ?? []).filter(({ attributes }) => attributes.sessionId === session_id)

describeWithPostgres('two instances on one database', () => {
  const instances = useInstances({
    env: { RECONCILE_SECONDS: '1', REQUESTS_PER_USER_PER_MINUTE: '10', READS_PER_USER_PER_MINUTE: '1000' },
  })

  test('that start together on an empty database have one signing key', async () => {
    const { a, b, sql } = instances()
    expect(await sql('select kid from signing_keys')).toHaveLength(1)
    const keys = await Promise.all(
      [a, b].map(async ({ api }) => (await api.request('GET', '/.well-known/jwks.json')).body),
    )
    expect(keys[0]).toEqual(keys[1])
  })

  test('serve one call together: token from one, webhook, callback and stream at the other', async () => {
    const { a, b, sfu, agent: newAgent, sql } = instances()
    const agent = await newAgent('crossed')
    const user = await a.api.guest()
    const ticket = await a.api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }
    const leg = sfu.join(ticket.participant_token)
    const stream = await fetch(`${b.api.url}/sessions/${ticket.session_id}/events`, {
      headers: { Authorization: `Bearer ${user.bearer}`, Accept: 'text/event-stream' },
    })
    const streamed = stream.text().catch(String)
    expect(await deliver(b.api, 'participant_joined', leg)).toBe(200)
    await a.api.untilStatus(user, ticket.session_id, 'live')
    // Just started, an instance may not yet know how its time compares with that of others.
    for (const { api } of [a, b]) await api.untilAccepted(agent, { ...pair, data: { i: 0 }, key: 'step-0' })
    for (let i = 0; i < 20; i++) {
      const { api } = i % 2 === 0 ? a : b
      // The same request twice, at both: stored once.
      const answers = await Promise.all(
        [a, b].map((one) => one.api.progress(agent, { ...pair, data: { i }, key: `step-${i}` })),
      )
      expect(answers.map(({ status, code }) => code ?? status)).toEqual([201, 201])
      expect(await api.events(user, ticket.session_id, i + 1)).toHaveLength(1)
    }
    await a.api.end(user, ticket.session_id)
    const data = [...(await streamed).matchAll(/^data: (.*)$/gm)].map(([, json = '']) => JSON.parse(json))
    expect(data.filter(({ type }) => type === 'progress').map(({ data }) => data.i)).toEqual(
      Array.from({ length: 20 }, (_, i) => i),
    )
    expect(data.at(-1)).toEqual({ reason: 'ended' })
    expect((await b.api.progress(agent, pair)).code).toBe('session_ended')
    await until('the user is out', () => !sfu.rooms.get(ticket.room_name)?.participants.has(user.id))
    const [row] = await sql<{ last_seq: string }>('select last_seq from sessions where id = $1', [ticket.session_id])
    expect(Number(row?.last_seq)).toBe(22)
  })

  test('create one dispatch per join, even if the other hears of it meanwhile', async () => {
    const { a, b, sfu, agent: newAgent } = instances()
    await newAgent('tutor')
    for (const [first, second] of [
      [a, b],
      [b, a],
    ] as const) {
      const user = await a.api.guest()
      const room = `lesson-${randomUUID()}`
      await a.api.request('POST', '/rooms', { bearer: user.bearer, body: { room } })
      const ticket = await b.api.mint(user, { room, ...TUTOR })
      const leg = sfu.join(ticket.participant_token)
      const isCreating = new Promise<void>((resolve) => {
        sfu.before('CreateDispatch', async () => {
          resolve()
          await delay(1500)
        })
      })
      await deliver(first.api, 'participant_joined', leg)
      await isCreating
      // Comparisons with LiveKit happen meanwhile as well.
      for (let i = 0; i < 5; i++) await deliver(second.api, 'participant_joined', leg)
      await until('it is dispatched', () => dispatchesOf(sfu, ticket).length > 0)
      await delay(1500)
      expect(dispatchesOf(sfu, ticket)).toHaveLength(1)
    }
  })

  test('remove a participant twice without harm to others in the room', async () => {
    const { a, b, sfu } = instances()
    const user = await a.api.guest()
    const room = `shared-${randomUUID()}`
    const first = await a.api.mint(user, { room })
    const leg = sfu.join(first.participant_token)
    await deliver(a.api, 'participant_joined', leg)
    const recorder = sfu.enter(room, { identity: 'recorder', kind: 'EGRESS' })
    await Promise.all([
      a.api.end(user, first.session_id),
      // LiveKit's participant is still there: both instances see that it has to go.
      ...[a, b].map(({ api }) =>
        until('it has ended', async () => (await api.session(user, first.session_id)).status === 'ended'),
      ),
    ])
    await Promise.all([a, b].map(({ api }) => deliver(api, 'participant_joined', leg)))
    await until('it is removed', () => !sfu.rooms.get(room)?.participants.has(user.id))
    const next = await b.api.mint(user, { room })
    sfu.join(next.participant_token)
    await delay(1000)
    expect([...(sfu.rooms.get(room)?.participants.keys() ?? [])].sort()).toEqual(
      [recorder.participant.identity, user.id].sort(),
    )
  })

  test('take workers of any instance, and close them when the account is disabled elsewhere', async () => {
    const { a, b, sfu, store, agent: newAgent } = instances()
    const livekit = livekitWorkers(sfu.server)
    const agent = await newAgent('worker')
    const worker = connectWorker(b.api.url, await workerToken(agent.id, agent.secret))
    expect(await worker.outcome).toBe('open')
    worker.socket.send(register(agent.id))
    await until('it is registered', () => worker.messages().some(({ case: kind }) => kind === 'register'))
    const user = await a.api.guest()
    const ticket = await a.api.mint(user, { room_config: { agents: [{ agent_name: agent.id }] } })
    const leg = sfu.join(ticket.participant_token)
    await deliver(a.api, 'participant_joined', leg)
    const attributes = { userId: user.id, sessionId: ticket.session_id }
    const job = new Job({ id: `AJ_${randomUUID()}`, room: { name: ticket.room_name }, agentName: agent.id, attributes })
    livekit.registered.at(-1)?.socket.send(assign(job))
    const types = async () => (await a.api.events(user, ticket.session_id)).map(({ type }) => type)
    await until('its job is known', async () => (await types()).includes('agent.joined'))
    await store.agents.disableAgent(agent.id, Date.now())
    const disabledAt = performance.now()
    expect((await worker.closed).code).toBe(1008)
    expect(performance.now() - disabledAt).toBeLessThan(4000)
    expect((await types()).filter((type) => type === 'agent.joined')).toHaveLength(1)
    expect((await types()).filter((type) => type === 'agent.lost').length).toBeLessThanOrEqual(1)
  })

  test('share a rate limit', async () => {
    const { a, b } = instances()
    const user = await a.api.guest()
    const statuses: number[] = []
    await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        const { api } = i % 2 === 0 ? a : b
        statuses.push((await api.request('POST', '/rooms', { bearer: user.bearer, body: {} })).status)
      }),
    )
    expect(statuses.filter((status) => status !== 429)).toHaveLength(10)
  })

  test('share the limit of failed sign-ins, also for simultaneous ones, and the addresses that are known', async () => {
    const { a, b, sql } = instances()
    const { email } = await a.api.register()
    const login = (api: Api, password: string) => api.request('POST', '/auth/login', { body: { email, password } })
    const wrong = await Promise.all(
      Array.from({ length: 24 }, (_, i) => login((i % 2 === 0 ? a : b).api, `wrong ${i}`)),
    )
    expect(wrong.filter(({ status }) => status === 401)).toHaveLength(10)
    expect(wrong.filter(({ status }) => status === 429)).toHaveLength(14)
    for (const { api } of [a, b]) expect((await login(api, 'correct horse battery staple')).status).toBe(429)
    expect((await sql('select 1 from rate_windows where count > 0')).length).toBeGreaterThan(0)
  })

  test('reconcile in turns: LiveKit is asked as often as by one', async () => {
    const { sfu } = instances()
    const before = sfu.asked('ListRooms')
    const startedAt = performance.now()
    await delay(6000)
    const asked = sfu.asked('ListRooms') - before
    // A turn is due after three quarters of RECONCILE_SECONDS. Two instances by themselves would ask twice a second.
    const turns = (performance.now() - startedAt) / 750
    expect(asked).toBeGreaterThanOrEqual(4)
    expect(asked).toBeLessThanOrEqual(turns + 1)
  })
})
