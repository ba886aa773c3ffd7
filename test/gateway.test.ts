import { request as httpRequest } from 'node:http'
import {
  AvailabilityResponse,
  Job,
  Room,
  SimulateJobRequest,
  UpdateWorkerStatus,
  WorkerPing,
  WorkerStatus,
} from '@livekit/protocol'
import { SignJWT } from 'jose'
import { describe, expect, test, vi } from 'vitest'
import { createGateway, GATEWAY_LIMITS } from '../src/agent/gateway.ts'
import { createClientAddress } from '../src/http/address.ts'
import { createRateLimits } from '../src/http/rate-limit.ts'
import { createServiceRouter } from '../src/http/service-router.ts'
import { createWorkerConnector } from '../src/livekit/worker-socket.ts'
import { createLog } from '../src/log.ts'
import { createMetrics } from '../src/metrics.ts'
import { createBackground } from '../src/sessions/background.ts'
import { storeBefore } from './older-store.ts'
import { dial, isUp, lines, said, served } from './raw-connections.ts'
import { assign, connectWorker, offer, register, workerMessage, workerScene, workerToken } from './worker-scene.ts'

const job = (id = 'AJ_1') => new Job({ id, room: new Room({ name: 'room_1' }), metadata: '{}', agentName: 'tutor' })

/** A worker's token with other claims than the SDKs'. */
const signed = (
  secret: string,
  { at = Math.floor(Date.now() / 1000), ...claims }: Record<string, unknown> & { at?: number },
) =>
  new SignJWT({ iss: 'tutor', nbf: at, exp: at + 21_600, video: { agent: true }, ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(Buffer.from(secret))

describe('a worker with its account’s id and secret', () => {
  test('registers with LiveKit under its account’s name, by a token that allows nothing else', async () => {
    const { registered, s } = await workerScene()
    const { atLiveKit } = await registered()
    expect(atLiveKit.url).toBe('/agent')
    expect(atLiveKit.claims).toEqual({
      iss: s.secrets.livekit.key,
      video: { agent: true },
      nbf: expect.any(Number),
      exp: expect.any(Number),
    })
    expect(atLiveKit.messages.map(({ message }) => message)).toMatchObject([
      { case: 'register', value: { agentName: 'tutor', version: '1.9.0' } },
    ])
  })

  test('that names no agent registers under its account’s name', async () => {
    const { connect, livekit } = await workerScene()
    const worker = await connect()
    await worker.outcome
    worker.socket.send(register(''))
    await vi.waitFor(() => expect(worker.frames).toHaveLength(1))
    expect(livekit.registered[0]?.messages[0]?.message.value).toMatchObject({ agentName: 'tutor' })
  })

  test('gets LiveKit’s own address with its job, unless LiveKit names one', async () => {
    const { registered } = await workerScene({ env: { LIVEKIT_PUBLIC_URL: 'wss://rtc.example.com' } })
    const { atLiveKit, messages } = await registered()
    atLiveKit.socket.send(offer(job()))
    atLiveKit.socket.send(assign(job()))
    atLiveKit.socket.send(assign(job(), 'wss://eu.example.com'))
    await vi.waitFor(() => expect(messages()).toHaveLength(4))
    const assignment = (url: string) => ({
      case: 'assignment',
      value: { url, token: 'of the room', job: { id: 'AJ_1' } },
    })
    expect(messages().slice(2)).toMatchObject([assignment('wss://rtc.example.com'), assignment('wss://eu.example.com')])
  })

  test('and LiveKit get each other’s messages unchanged, unknown ones and unknown fields too', async () => {
    const { registered } = await workerScene()
    const { socket, frames, atLiveKit } = await registered()
    // Field 90 is in no version of the protocol.
    const unknown = Buffer.from([0xd2, 0x05, 0x03, 1, 2, 3])
    const fromWorker = [
      unknown,
      workerMessage({ case: 'ping', value: new WorkerPing({ timestamp: 5n }) }),
      Buffer.concat([workerMessage({ case: 'updateWorker', value: new UpdateWorkerStatus({ load: 0.5 }) }), unknown]),
      workerMessage({
        case: 'availability',
        value: new AvailabilityResponse({ jobId: 'AJ_1', available: true, participantAttributes: { b: '2', a: '1' } }),
      }),
    ]
    const fromLiveKit = [unknown, Buffer.concat([offer(job()), unknown]), Buffer.from([0xff])]
    for (const frame of fromWorker) socket.send(frame)
    for (const frame of fromLiveKit.slice(0, 2)) atLiveKit.socket.send(frame)
    await vi.waitFor(() => expect(atLiveKit.frames).toHaveLength(1 + fromWorker.length))
    await vi.waitFor(() => expect(frames).toHaveLength(3))
    expect(atLiveKit.frames.slice(1)).toEqual(fromWorker.map((frame) => Buffer.from(frame)))
    expect(frames.slice(1)).toEqual(fromLiveKit.slice(0, 2).map((frame) => Buffer.from(frame)))
  })

  test('may use either of two overlapping secrets, until the old one expires', async () => {
    const { s, agent, connect } = await workerScene()
    const { secret } = await s.accounts.rekey('tutor', 60_000)
    const old = await connect()
    const next = await connect(await workerToken('tutor', secret))
    expect([await old.outcome, await next.outcome]).toEqual(['open', 'open'])
    s.clock.advance(61)
    expect(await old.closed).toEqual({ code: 1008, reason: 'the agent account was disabled, or its secret replaced' })
    expect(await (await connect(await signed(agent.secret, { at: s.clock.now() / 1000 }))).outcome).toBe(401)
    expect(next.socket.readyState).toBe(next.socket.OPEN)
  })

  test('hears of it when LiveKit closes the connection, and LiveKit when the worker does', async () => {
    const { registered } = await workerScene()
    const first = await registered()
    first.atLiveKit.socket.close(1000)
    expect(await first.closed).toEqual({ code: 1012, reason: 'LiveKit closed the connection' })
    const second = await registered()
    const gone = new Promise((resolve) => second.atLiveKit.socket.on('close', resolve))
    second.socket.terminate()
    await gone
  })
})

describe('a connection is refused', () => {
  test.each([
    ['a wrong secret', () => ({ secret: 'x'.repeat(43) })],
    ['another account’s id', () => ({ iss: 'other' })],
    ['no such account', () => ({ iss: 'nobody' })],
    ['no issuer', () => ({ iss: undefined })],
    ['no grant', () => ({ video: {} })],
    ['a grant that is not true itself', () => ({ video: { agent: 'true' } })],
    ['no expiry', () => ({ exp: undefined })],
    ['no time of signing', () => ({ nbf: undefined })],
    ['an expiry that is past', () => ({ exp: Math.floor(Date.now() / 1000) - 70 })],
    ['a signing over a minute ago, however late it expires', () => ({ at: Math.floor(Date.now() / 1000) - 62 })],
    ['a signing over a minute ahead', () => ({ at: Math.floor(Date.now() / 1000) + 70 })],
  ])('with %s', async (_, change) => {
    const { s, agent, connect, livekit } = await workerScene()
    await s.newAgent('other')
    const { secret = agent.secret, ...claims } = change() as { secret?: string }
    expect(await (await connect(await signed(secret, claims))).outcome).toBe(401)
    expect(livekit.registered).toEqual([])
    expect(await (await connect(await signed(agent.secret, {}))).outcome).toBe('open')
  })

  test('with a token that was good a minute earlier', async () => {
    const { s, agent, connect } = await workerScene()
    const token = await workerToken(agent.id, agent.secret)
    expect(await (await connect(token)).outcome).toBe('open')
    s.clock.advance(62)
    expect(await (await connect(token)).outcome).toBe(401)
  })

  test('with any other token, or none that is signed', async () => {
    const { agent, connect, s } = await workerScene()
    const user = await s.newUser()
    const none = await signed(agent.secret, {}).then((token) =>
      token.replace(/^[^.]+/, Buffer.from('{"alg":"none"}').toString('base64url')),
    )
    for (const token of [agent.bearer, user.bearer, none, 'x', agent.secret]) {
      expect(await (await connect(token)).outcome, token.slice(0, 9)).toBe(401)
    }
  })

  test('for a disabled account, and one whose secret an earlier version issued, which is told what to do', async () => {
    const { s, connect } = await workerScene()
    await s.accounts.disable('tutor')
    expect(await (await connect()).outcome).toBe(403)
    await s.accounts.enable('tutor')
    expect(await (await connect()).outcome).toBe('open')
    const tutor = await s.store.agents.findAgent('tutor')
    await s.store.agents.replaceSecret('tutor', { secretHash: tutor?.secretHash ?? '', sealedSecret: null })
    expect(await (await connect()).outcome).toBe(403)
    expect(s.logged().map(({ code }) => code)).toContain('agent_secret_outdated')
    expect(s.logged().map(({ msg }) => msg)).toContainEqual(expect.stringContaining('npm run agent -- rekey tutor'))
  })

  test('after ten wrong secrets, but never with the right one', async () => {
    const { connect } = await workerScene()
    const outcomes = []
    for (let i = 0; i < 11; i++) outcomes.push(await (await connect(await signed('y'.repeat(43), {}))).outcome)
    expect(outcomes).toEqual([...Array(10).fill(401), 429])
    expect(await (await connect()).outcome).toBe('open')
  })

  test('while LiveKit refuses or does not answer, and accepted once it does', async () => {
    const { connect, livekit, s } = await workerScene()
    livekit.isUp = false
    expect(await (await connect()).outcome).toBe(503)
    livekit.isUp = true
    expect(await (await connect()).outcome).toBe('open')
    expect(s.logged().map(({ msg }) => msg)).toContain('LiveKit cannot be queried now; /health says why.')
  })

  test('without a WebSocket handshake, with a word on who connects here', async () => {
    const { s, agent } = await workerScene()
    const answer = await s.get('/agent', await workerToken(agent.id, agent.secret))
    expect([answer.status, answer.headers.get('Upgrade')]).toEqual([426, 'websocket'])
    expect(await answer.json()).toMatchObject({ detail: 'Workers of LiveKit’s agent SDKs connect here by WebSocket.' })
  })
})

describe('a worker’s connection is closed', () => {
  const DENIED = [
    ['another account’s name', register('other'), 1008, 'agent_name must be tutor, the account’s id, or empty'],
    [
      'a job that it makes up, for any room',
      workerMessage({
        case: 'simulateJob',
        value: new SimulateJobRequest({ room: new Room({ name: 'room_of_another' }) }),
      }),
      1008,
      'a worker may not simulate jobs: it could name any room',
    ],
    [
      'an answer by which it would join as a user',
      workerMessage({
        case: 'availability',
        value: new AvailabilityResponse({ jobId: 'AJ_1', available: true, participantIdentity: 'user_1' }),
      }),
      1008,
      'a worker may not join under the identity of a user',
    ],
    ['bytes that are no message', Buffer.from([0x0a, 0xff]), 1008, 'this is not a message of LiveKit’s agent protocol'],
    ['JSON', '{"register":{"agentName":"other"}}', 1003, 'send binary messages, as LiveKit’s SDKs do'],
    ['more than a mebibyte', Buffer.alloc(1024 * 1024 + 1), 1009, ''],
  ] as const

  test.each(DENIED)('when it sends %s', async (_, frame, code, reason) => {
    const { registered, url } = await workerScene()
    const { socket, closed, atLiveKit } = await registered()
    const gone = new Promise((resolve) => atLiveKit.socket.on('close', resolve))
    socket.send(frame)
    expect(await closed).toEqual({ code, reason })
    await gone
    expect(atLiveKit.messages).toHaveLength(1)
    await isUp(url)
  })

  test('or reads as something harmless to one parser: a made-up job hidden behind a field of another wire type', async () => {
    const { registered } = await workerScene()
    const { socket, closed, atLiveKit } = await registered()
    const simulated = workerMessage({
      case: 'simulateJob',
      value: new SimulateJobRequest({ room: new Room({ name: 'r' }) }),
    })
    // Field 5 as a varint: Go skips it as unknown and reads the job; a careless parser reads a ping as long as the job.
    socket.send(Buffer.concat([Buffer.from([0x28, simulated.length]), simulated]))
    socket.send(workerMessage({ case: 'ping', value: new WorkerPing({ timestamp: 9n }) }))
    await Promise.race([closed, vi.waitFor(() => expect(atLiveKit.messages.length).toBeGreaterThan(2))])
    for (const frame of atLiveKit.frames) expect(frame[0] === 0x28).toBe(false)
    expect(atLiveKit.messages.map(({ message }) => message.case)).not.toContain('simulateJob')
  })

  test.each([
    ['disabled', 'disable'],
    ['given another secret', 'rekey'],
  ] as const)('within about a second when its account is %s, in the middle of a call', async (_, act) => {
    const { s, agent, registered, connect } = await workerScene()
    const present = await s.present({ room_config: { agents: [{ agent_name: 'tutor' }] } })
    const attributes = { 'lk.agent_name': 'tutor' }
    s.sfu.enter(present.room, { identity: 'agent-AJ_0', kind: 'AGENT', attributes })
    const { closed } = await registered()
    expect((await s.progress(agent.bearer, present.pair)).status).toBe(201)
    const startedAt = performance.now()
    await s.accounts[act]('tutor')
    expect((await s.progress(agent.bearer, present.pair)).status).toBe(act === 'disable' ? 403 : 401)
    expect(await closed).toEqual({ code: 1008, reason: 'the agent account was disabled, or its secret replaced' })
    expect(performance.now() - startedAt).toBeLessThan(5_000)
    expect(await (await connect()).outcome).toBe(act === 'disable' ? 403 : 401)
    if (act === 'rekey') return
    // Its agents leave the rooms at once, although no job was given to this connection: the service may have restarted.
    await vi.waitFor(() => expect(s.sfu.rooms.get(present.room)?.participants.has('agent-AJ_0')).toBe(false))
  })

  test('when the service stops: after a job that is being offered was assigned, and LiveKit offers no more', async () => {
    const { s, registered } = await workerScene()
    const { socket, atLiveKit, closed, messages } = await registered()
    atLiveKit.socket.send(offer(job()))
    await vi.waitFor(() => expect(messages()).toHaveLength(2))
    const stopped = s.gateway.close()
    await vi.waitFor(() => expect(atLiveKit.messages).toHaveLength(2))
    expect(atLiveKit.messages[1]?.message).toMatchObject({
      case: 'updateWorker',
      value: { status: WorkerStatus.WS_FULL },
    })
    // The worker has room, which LiveKit must not learn now.
    socket.send(
      workerMessage({ case: 'updateWorker', value: new UpdateWorkerStatus({ status: WorkerStatus.WS_AVAILABLE }) }),
    )
    socket.send(
      workerMessage({ case: 'availability', value: new AvailabilityResponse({ jobId: 'AJ_1', available: true }) }),
    )
    await vi.waitFor(() => expect(atLiveKit.messages).toHaveLength(3))
    expect(atLiveKit.messages[2]?.message.case).toBe('availability')
    expect(socket.readyState).toBe(socket.OPEN)
    atLiveKit.socket.send(assign(job()))
    expect(await closed).toEqual({ code: 1001, reason: 'the service is stopping' })
    await stopped
    expect(messages().at(-1)?.case).toBe('assignment')
  })
})

/** The gateway alone, with low limits. */
async function limited(own: Partial<typeof GATEWAY_LIMITS>) {
  const w = await workerScene()
  const { config, secrets, store } = w.s
  const log = createLog('silent')
  const { router } = createServiceRouter({ config, log, metrics: createMetrics() })
  const connect = createWorkerConnector(config.livekitUrl, secrets.livekit, store.clock.now)
  const limits = createRateLimits(config, store.counters)
  const address = createClientAddress([])
  const jobs = { assigned: async () => {}, ended: async () => {} }
  const background = createBackground(log)
  const reconcile = async () => {}
  const deps = {
    store,
    jobs,
    background,
    reconcile,
    connect,
    livekitUrl: config.livekitPublicUrl,
    limits,
    address,
    log,
  }
  const gateway = createGateway(deps, { ...GATEWAY_LIMITS, ...own })
  const { url } = await served({ app: router.route('/', gateway.routes), config })
  const token = () => workerToken(w.agent.id, w.agent.secret)
  return { ...w, url, connect: async (options = {}) => connectWorker(url, await token(), options) }
}

test('an account has so many workers at a time, whatever others have', async () => {
  const { s, url, connect, livekit } = await limited({ workers: 2 })
  const outcome = async () => (await connect()).outcome
  const first = await connect()
  expect([await first.outcome, await outcome(), await outcome()]).toEqual(['open', 'open', 429])
  const other = await s.newAgent('other')
  expect(await connectWorker(url, await workerToken('other', other.secret)).outcome).toBe('open')
  first.socket.terminate()
  await vi.waitFor(async () => expect(await outcome()).toBe('open'))
  expect(await outcome()).toBe(429)
  // One that LiveKit refuses takes up no place.
  const second = livekit.registered[1]
  second?.socket.terminate()
  livekit.isUp = false
  await vi.waitFor(async () => expect(await outcome()).toBe(503))
  livekit.isUp = true
  expect([await outcome(), await outcome()]).toEqual(['open', 429])
})

describe('a connection that does nothing', () => {
  test('is closed when its worker does not register', async () => {
    const { connect } = await limited({ register: 100 })
    const worker = await connect()
    expect(await worker.closed).toEqual({ code: 1008, reason: 'the worker did not register' })
  })

  test.each(['the worker', 'LiveKit'])('is closed on both sides when %s no longer answers pings', async (who) => {
    const { connect, livekit } = await limited({ ping: 100 })
    const worker = await connect({ autoPong: who !== 'the worker' })
    await worker.outcome
    worker.socket.send(register('tutor'))
    await vi.waitFor(() => expect(worker.frames).toHaveLength(1))
    const atLiveKit = livekit.registered[0]?.socket
    // A socket that is not read answers nothing.
    if (who === 'LiveKit') atLiveKit?.pause()
    await worker.closed
    if (who === 'the worker') await vi.waitFor(() => expect(atLiveKit?.readyState).toBe(atLiveKit?.CLOSED))
  })

  test('stays open while both answer', async () => {
    const { connect, livekit } = await limited({ ping: 50 })
    const worker = await connect()
    await worker.outcome
    worker.socket.send(register('tutor'))
    let pings = 0
    worker.socket.on('ping', () => pings++)
    await vi.waitFor(() => expect(pings).toBeGreaterThan(5))
    expect(livekit.registered[0]?.socket.readyState).toBe(1)
  })

  test('costs others nothing, a thousand times: no headers, or no end of them', async () => {
    const { port, url, connect } = await workerScene()
    const head = lines('GET /agent HTTP/1.1', 'Host: x', 'Connection: Upgrade', 'Upgrade: websocket')
    const all = Array.from({ length: 1000 }, () => dial(port))
    await Promise.all(all.map((socket, i) => new Promise((done) => socket.write(i % 2 ? head : '', done))))
    await isUp(url)
    expect(await (await connect()).outcome).toBe('open')
  })
})

test('a side that does not read stops the other from being read, so that little waits in between', async () => {
  const { registered } = await workerScene()
  const { socket, atLiveKit } = await registered()
  atLiveKit.socket.pause()
  const frame = workerMessage({
    case: 'availability',
    value: new AvailabilityResponse({ participantMetadata: 'x'.repeat(60_000) }),
  })
  let sent = 0
  const timer = setInterval(() => {
    // Only as fast as the service takes it.
    while (socket.bufferedAmount === 0 && sent < 1_000) {
      socket.send(frame)
      sent++
    }
  }, 1)
  let last = -1
  await vi.waitFor(
    () => {
      const stands = sent === last && sent > 1
      last = sent
      expect(stands).toBe(true)
    },
    { interval: 500, timeout: 20_000 },
  )
  // Most is in the buffers of the kernel; 1,000 messages are 60 MB.
  expect(sent).toBeLessThan(600)
  atLiveKit.socket.resume()
  await vi.waitFor(() => expect(sent).toBe(1_000), 20_000)
  clearInterval(timer)
  await vi.waitFor(() => expect(atLiveKit.frames).toHaveLength(1_001), 20_000)
})

test.each([
  'h2c', // as Java's client offers by default
  'websocket',
])('a request that offers to upgrade to %s keeps its method and body, and is answered as before', async (upgrade) => {
  const { port } = await workerScene()
  const headers = [
    'Host: x',
    'Connection: Upgrade, HTTP2-Settings, close',
    `Upgrade: ${upgrade}`,
    'HTTP2-Settings: AAEA',
  ]
  const body = ['Content-Type: application/json', 'Content-Length: 2', '']
  const { status, answer } = await said(dial(port), `${lines('POST /auth/guest HTTP/1.1', ...headers, ...body)}{}`)
  expect(status).toBe(201)
  expect(answer).toContain('access_token')
})

test('a WebSocket anywhere else is refused', async () => {
  const { port } = await workerScene()
  const status = await new Promise((resolve) => {
    const headers = {
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': 'AQIDBAUGBwgJCgsMDQ4PEA==',
    }
    httpRequest({ port, host: '127.0.0.1', path: '/nothing', headers }, ({ statusCode }) => resolve(statusCode)).end()
  })
  expect(status).toBe(404)
})

test('a store of an earlier version keeps its agents’ secrets for tokens', async () => {
  const databaseUrl = storeBefore('agent_gateway', (raw) => {
    raw.exec(
      `insert into agents (id, secret_hash, scopes, created_at) values ('tutor', '${'0'.repeat(64)}', 'progress:write', 1)`,
    )
  })
  const { makeApp } = await import('./support.ts')
  const { store } = await makeApp({ databaseUrl })
  expect(await store.agents.findAgent('tutor')).toMatchObject({ secretHash: '0'.repeat(64), sealedSecret: null })
})
