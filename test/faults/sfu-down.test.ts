import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFailed, onTestFinished, test } from 'vitest'
import { type Answer, apiAt, type Ticket, type User } from '../e2e/api.ts'
import { freeTcpPort } from '../e2e/processes.ts'
import { service } from '../e2e/service.ts'
import { startSfu } from '../sfu.ts'
import { FAULTS } from './sfu-faults.ts'
import { report, sized } from './size.ts'

/** Users whom the agent calls for although they are not there, each of them again and again. */
const ABSENT = sized(20, 50)
const ROUNDS = sized(2, 8)
const READS = sized(300, 3_000)
/** LiveKit has 2 s for one question, and none is begun later than 2 s after the first: the rest is a busy machine. */
const ANSWERED_WITHIN_MS = 6_000

const ENV = { LOG_LEVEL: 'silent', GUESTS_PER_ADDRESS_PER_HOUR: '100000', LIVENESS_SECONDS: '1' }

interface Caller {
  user: User
  ticket: Ticket
}

async function setUp() {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-sfu-down-'))
  const sfu = await startSfu()
  const behalf = await service({ folder, port: await freeTcpPort(), livekitUrl: sfu.url, env: ENV })
  onTestFailed(() => console.log(behalf.log().slice(-4000)))
  onTestFinished(async () => {
    await behalf.stop('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  })
  await behalf.start()
  const api = apiAt(behalf)
  const agent = await api.agent('tutor')
  const newCaller = async (): Promise<Caller> => {
    const user = await api.guest()
    return { user, ticket: await api.mint(user) }
  }
  /** New sessions for each fault, because a refusal is reused for a second. */
  const newAbsent = () => Promise.all(Array.from({ length: ABSENT }, newCaller))
  return { sfu, api, agent, newCaller, newAbsent }
}

type SetUp = Awaited<ReturnType<typeof setUp>>

/** How long each of so many requests took, a few at a time, in milliseconds, sorted. */
async function latencies(times: number, request: () => Promise<Answer>): Promise<number[]> {
  const took: number[] = []
  const worker = async () => {
    while (took.length < times) {
      const started = performance.now()
      expect((await request()).status).toBe(200)
      took.push(performance.now() - started)
    }
  }
  await Promise.all(Array.from({ length: 4 }, worker))
  return took.sort((a, b) => a - b)
}

const percentile = (sorted: number[], share: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

/** Calls for every user at once while another user reads: the answers, and how long the reads took. */
async function callWhileReading({ api, agent }: SetUp, absent: Caller[], reader: User) {
  const codes = new Map<string, number>()
  let slowest = 0
  const call = async ({ user, ticket }: Caller) => {
    const started = performance.now()
    const { status, code } = await api.progress(agent, { userId: user.id, sessionId: ticket.session_id })
    slowest = Math.max(slowest, performance.now() - started)
    const answer = `${status} ${code ?? ''}`.trim()
    codes.set(answer, (codes.get(answer) ?? 0) + 1)
  }
  const rounds = async () => {
    for (let round = 0; round < ROUNDS; round++) await Promise.all(absent.map(call))
  }
  const [reads] = await Promise.all([
    latencies(READS, () => api.request('GET', '/auth/me', { bearer: reader.bearer })),
    rounds(),
  ])
  return { codes, slowest, reads }
}

/** Control: once LiveKit has recovered, a callback for a user who is in the room is accepted. */
async function untilAccepted({ sfu, api, agent, newCaller }: SetUp): Promise<void> {
  const { user, ticket } = await newCaller()
  sfu.join(ticket.participant_token)
  await api.untilAccepted(agent, { userId: user.id, sessionId: ticket.session_id })
}

test('a LiveKit server that is down, slow, hanging or wrong admits no callback and delays no other request', async () => {
  const s = await setUp()
  const reader = await s.api.guest()
  const healthy = await callWhileReading(s, await s.newAbsent(), reader)
  expect([...healthy.codes.keys()]).toEqual(['409 session_not_live'])
  const baseline = percentile(healthy.reads, 0.99)
  report('LiveKit healthy', figures(healthy))
  for (const [name, fault] of Object.entries(FAULTS)) {
    const absent = await s.newAbsent()
    const restore = fault.begin(s.sfu, absent.map(subjectOf))
    const during = await callWhileReading(s, absent, reader)
    restore()
    report(`LiveKit ${name}`, figures(during))
    for (const answer of during.codes.keys()) expect(fault.answers, `${name}: ${answer}`).toContain(answer)
    expect(during.slowest, `${name}: the slowest callback`).toBeLessThan(ANSWERED_WITHIN_MS)
    // Not hurt: generous, since the machine is shared; the figures are what counts.
    expect(percentile(during.reads, 0.99), `${name}: p99 of /auth/me`).toBeLessThan(Math.max(10 * baseline, 500))
    await untilAccepted(s)
  }
})

const subjectOf = ({ user, ticket }: Caller) => ({
  userId: user.id,
  sessionId: ticket.session_id,
  room: ticket.room_name,
})

function figures({ codes, slowest, reads }: Awaited<ReturnType<typeof callWhileReading>>) {
  return {
    answers: [...codes].map(([code, times]) => `${times} × ${code}`).join(' + '),
    slowestCallbackMs: Math.round(slowest),
    readP50Ms: percentile(reads, 0.5).toFixed(1),
    readP99Ms: percentile(reads, 0.99).toFixed(1),
  }
}
