import { createServer, request, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { expect, test, vi } from 'vitest'
import { shutDown } from '../src/shutdown.ts'

const PATIENT = { notice: 0, drain: 60_000, hardExit: 60_000 }

/** An HTTP server whose one answer waits for the test, and what a shutdown does around it, in order. */
async function makeScene() {
  const steps: string[] = []
  const step = (name: string) => async () => void steps.push(name)
  const server = createServer()
  let answer = () => {}
  const arrived = new Promise<void>((resolve) => {
    server.on('request', (_, response) => {
      answer = () => {
        steps.push('answer')
        response.end('done')
      }
      resolve()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const log = { warn: vi.fn() }
  const deps = {
    health: { ready: true },
    server,
    closeStreams: step('streams'),
    stopTimers: step('timers'),
    background: { idle: step('background') },
    closeStore: step('store'),
    log,
  }
  return { steps, arrived, server, log, deps, answer: () => answer() }
}

/** One request; its body, or the error's code when the connection is refused or cut. */
const ask = (server: Server, port = (server.address() as AddressInfo).port) =>
  new Promise<string>((resolve) => {
    const asking = request({ port, host: '127.0.0.1' }, async (response) => {
      let body = ''
      for await (const chunk of response) body += chunk
      resolve(body)
    })
    asking.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'))
    asking.end()
  })

test('a client that keeps its connection is told to leave it, while others may still come', async () => {
  const { server, deps, arrived, answer } = await makeScene()
  const stopped = shutDown(deps, { ...PATIENT, notice: 300 })
  const { port } = server.address() as AddressInfo
  const told = fetch(`http://127.0.0.1:${port}/`)
  await arrived
  answer()
  expect((await told).headers.get('Connection')).toBe('close')
  await stopped
})

test('shutdown ends readiness, refuses new connections, finishes open requests and closes the store last', async () => {
  const { steps, arrived, server, log, deps, answer } = await makeScene()
  const { port } = server.address() as AddressInfo
  const underWay = ask(server)
  await arrived
  const stopped = shutDown(deps, PATIENT)
  expect(deps.health.ready).toBe(false)
  await vi.waitFor(() => expect(server.listening).toBe(false), 10_000)
  expect(await ask(server, port)).toBe('ECONNREFUSED')
  answer()
  expect(await underWay).toBe('done')
  await stopped
  expect(steps).toEqual(['streams', 'timers', 'answer', 'background', 'store'])
  expect(log.warn).not.toHaveBeenCalled()
})

test('shutdown keeps serving during the notice to load balancers', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  try {
    const { steps, arrived, server, deps, answer } = await makeScene()
    const stopped = shutDown(deps, { ...PATIENT, notice: 3_000 })
    expect(deps.health.ready).toBe(false)
    await vi.advanceTimersByTimeAsync(2_999)
    const late = ask(server)
    await arrived
    answer()
    expect(await late).toBe('done')
    expect(steps).toEqual(['answer'])
    await vi.advanceTimersByTimeAsync(1)
    vi.useRealTimers()
    await stopped
    expect(steps.at(-1)).toBe('store')
  } finally {
    vi.useRealTimers()
  }
})

test('a request that arrives on an idle connection as these are closed is answered', async () => {
  const { server, deps } = await makeScene()
  server.removeAllListeners('request').on('request', (_, response) => void response.end('done'))
  const { port } = server.address() as AddressInfo
  const socket = connect(port, '127.0.0.1')
  let received = ''
  socket
    .on('error', () => {})
    .on('data', (chunk) => {
      received += chunk
    })
  const send = () => socket.write('GET / HTTP/1.1\r\nHost: behalf.test\r\n\r\n')
  send()
  await vi.waitFor(() => expect(received).toContain('done'))
  // In the same turn of the event loop, before the server reads its sockets: as on a busy machine.
  const notice = 100
  setTimeout(send, notice)
  const stopped = shutDown(deps, { ...PATIENT, notice })
  await new Promise((resolve) => socket.once('close', resolve))
  expect(received.match(/done/g)).toHaveLength(2)
  await stopped
})

test('shutdown cuts off requests that exceed the deadline, logs it, and still closes the store', async () => {
  const { steps, arrived, server, log, deps } = await makeScene()
  const underWay = ask(server)
  await arrived
  await shutDown({ ...deps, stopTimers: () => new Promise<void>(() => {}) }, { ...PATIENT, drain: 20 })
  expect(await underWay).toBe('ECONNRESET')
  expect(steps).toContain('store')
  expect(log.warn).toHaveBeenCalledOnce()
})
