import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { freeTcpPort, NO_LIVEKIT } from '../e2e/processes.ts'
import { service } from '../e2e/service.ts'
import { report, sized } from './size.ts'

const SOCKETS = sized(1_000, 10_000)
const REQUESTS = 200
/** At a time, so that none waits in the queue for accept. */
const DIALLED_AT_ONCE = 100

test(`the service answers while ${SOCKETS} sockets are idle, and then closes them`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-idle-'))
  const port = await freeTcpPort()
  const env = { LOG_LEVEL: 'warn', GUESTS_PER_ADDRESS_PER_HOUR: String(REQUESTS) }
  const behalf = await service({ folder, port, livekitUrl: NO_LIVEKIT, env })
  const sockets: Socket[] = []
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy()
    await behalf.stop('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  await behalf.start()

  const closed: Promise<unknown>[] = []
  while (sockets.length < SOCKETS) {
    const some = Array.from({ length: DIALLED_AT_ONCE }, () => connect(port, '127.0.0.1').on('error', () => {}))
    sockets.push(...some)
    closed.push(...some.map((socket) => new Promise((resolve) => socket.resume().once('close', resolve))))
    await Promise.all(some.map((socket) => new Promise((resolve) => socket.once('connect', resolve))))
  }
  const open = () => sockets.filter((socket) => !socket.destroyed).length
  expect(open()).toBe(SOCKETS)

  const durations: number[] = []
  for (let i = 0; i < REQUESTS; i++) {
    const startedAt = performance.now()
    const answer = await fetch(`${behalf.url}/auth/guest`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
    })
    await answer.arrayBuffer()
    durations.push(performance.now() - startedAt)
    expect(answer.status).toBe(201)
  }
  const stillOpen = open()
  durations.sort((a, b) => a - b)
  const [p50 = 0, p99 = 0] = [durations[REQUESTS / 2], durations.at(-2)]
  report('idle sockets', { opened: SOCKETS, stillOpen, p50Ms: p50.toFixed(1), p99Ms: p99.toFixed(1) })
  // No idle socket was closed to make room; the other requests were served alongside.
  expect(stillOpen).toBe(SOCKETS)
  expect(p99).toBeLessThan(1000)
  await Promise.all(closed)
  expect((await fetch(`${behalf.url}/health/live`)).status).toBe(200)
})
