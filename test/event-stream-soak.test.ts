import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFailed, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import { apiAt } from './e2e/api.ts'
import { freeTcpPort, until } from './e2e/processes.ts'
import { service } from './e2e/service.ts'
import { startSfu } from './sfu.ts'
import { openStream, type Stream } from './stream-client.ts'

const EVENTS = 1_000
const WRITERS = 4
/** When so many events have arrived, the reader's connection is cut; once by the death of the service. */
const CUTS = [100, 250, 400, 650, 850]
const KILL = 500
const SECONDS = 60

const Step = z.object({ step: z.number().int() })

/** The built service as its own process, and a session that is live in it. */
async function liveService() {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-soak-'))
  const sfu = await startSfu()
  const behalf = await service({ folder, port: await freeTcpPort(), livekitUrl: sfu.url })
  onTestFailed(() => console.log(behalf.log().split('\n').slice(-40).join('\n')))
  onTestFinished(async () => {
    await behalf.stop('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  })
  await behalf.start()
  const api = apiAt(behalf)
  const [user, agent] = await Promise.all([api.guest(), api.agent('soak')])
  const ticket = await api.mint(user)
  sfu.join(ticket.participant_token)
  const pair = { userId: user.id, sessionId: ticket.session_id }
  /** Posts one step until it is accepted, as an agent does when the connection breaks. */
  const report = (step: number) =>
    until(
      `step ${step} is taken`,
      async () => (await api.progress(agent, { ...pair, data: { step }, key: `step-${step}` })).status === 201,
      SECONDS,
    )
  const url = `${behalf.url}/sessions/${ticket.session_id}/events`
  return { behalf, api, user, pair, report, open: (after = '0') => openStream(`${url}?after=${after}`, user) }
}

test(`${EVENTS} events arrive once and in order over ${CUTS.length} disconnections and a kill -9`, async () => {
  const { behalf, api, user, pair, report, open } = await liveService()
  const write = async (writer: number) => {
    for (let step = writer; step < EVENTS; step += WRITERS) await report(step)
  }
  const written = Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer)))

  const streams: Stream[] = []
  const ids = () => streams.flatMap((stream) => stream.ids)
  const reopen = async () => {
    const stream = await open(ids().at(-1))
    streams.push(stream)
    return stream
  }
  for (const cut of [...CUTS, KILL].sort((a, b) => a - b)) {
    const stream = await reopen()
    await until(`${cut} events`, () => ids().length >= cut, SECONDS)
    if (cut === KILL) {
      await behalf.stop('SIGKILL')
      expect(await stream.over).toBe(false)
      await behalf.start()
    } else {
      stream.stop()
      await stream.over
    }
  }
  const last = await reopen()
  await written
  await api.end(user, pair.sessionId)
  expect(await last.over).toBe(true)
  expect(last.closed).toEqual({ reason: 'ended' })

  expect(ids()).toEqual(ids().map((_, i) => String(i + 1)))
  const events = streams.flatMap((stream) => stream.events)
  const steps = events.flatMap(({ type, data }) => (type === 'progress' ? [Step.parse(data).step] : []))
  const inOrder = Array.from({ length: EVENTS }, (_, step) => step)
  expect([...steps].sort((a, b) => a - b)).toEqual(inOrder)
  for (let writer = 0; writer < WRITERS; writer++) {
    const own = (step: number) => step % WRITERS === writer
    expect(steps.filter(own)).toEqual(inOrder.filter(own))
  }
}, 120_000)

test('stopping the service ends its event streams at once with a reason', async () => {
  const { behalf, report, open } = await liveService()
  await report(1)
  const streams = await Promise.all([open(), open(), open()])
  await until('all have events', () => streams.every(({ ids }) => ids.length === 2))
  const start = performance.now()
  await behalf.stop('SIGTERM')
  expect(performance.now() - start).toBeLessThan(2_000)
  for (const stream of streams) {
    expect(await stream.over).toBe(true)
    expect(stream.closed).toEqual({ reason: 'shutting_down' })
  }
}, 60_000)
