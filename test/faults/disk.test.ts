import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFailed, onTestFinished, test } from 'vitest'
import { apiAt } from '../e2e/api.ts'
import { REPOSITORY } from '../e2e/binaries.ts'
import { freeTcpPort, run, until } from '../e2e/processes.ts'
import { service } from '../e2e/service.ts'
import { startSfu } from '../sfu.ts'
import { hashOf, nothingYet, refreshTokenOf, seqOf } from './load.ts'
import { report } from './size.ts'
import { expectStored } from './stored.ts'
import { strace } from './strace.ts'

const ENV = { LOG_LEVEL: 'silent', GUESTS_PER_ADDRESS_PER_HOUR: '100000' }
/** More writes than are needed to get to the failing system calls, and past them. */
const MOST_WRITES = 400

/** The built service under strace with these arguments, and what was stored before it started. */
async function traced(args: (wal: string) => string[], endOfFirst: NodeJS.Signals = 'SIGTERM') {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-disk-'))
  const sfu = await startSfu()
  const port = await freeTcpPort()
  const behalf = await service({ folder, port, livekitUrl: sfu.url, env: ENV })
  onTestFinished(async () => {
    await behalf.stop('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  })
  // The first start makes the file, so that the one that is traced begins like any other.
  await behalf.start()
  const api = apiAt(behalf)
  const [user, agent] = await Promise.all([api.guest(), api.agent('tutor')])
  const ticket = await api.mint(user)
  sfu.join(ticket.participant_token)
  const pair = { userId: user.id, sessionId: ticket.session_id }
  const family = refreshTokenOf((await api.request('POST', '/auth/guest', { body: {} })).body)
  await behalf.stop(endOfFirst)

  const wal = `${behalf.databaseUrl.slice('file:'.length)}-wal`
  const server = run('strace', ['-f', '-qq', ...args(wal), process.execPath, join(REPOSITORY, 'dist/server.js')], {
    cwd: folder,
    env: { HOST: '127.0.0.1', PORT: String(port), DATABASE_URL: behalf.databaseUrl, LIVEKIT_URL: sfu.url, ...ENV },
  })
  onTestFinished(() => server.stop('SIGKILL'))
  onTestFailed(() => console.log(server.log().slice(-4000)))
  await until('it is ready', async () => server.isRunning() && (await fetch(`${behalf.url}/health/ready`)).ok)
  return { api, user, agent, pair, family, wal, databaseUrl: behalf.databaseUrl, server }
}

test.skipIf(!strace()).each([
  ['fsync fails (EIO)', 'fsync,fdatasync:error=EIO:when=30..50'],
  ['the disk is full (ENOSPC)', 'pwrite64:error=ENOSPC:when=120..160'],
])('while %s writes are refused, reads go on, and then all is well again', async (what, inject) => {
  const { api, user, agent, pair, family, databaseUrl, server } = await traced((wal) => [
    ...['-o', '/dev/null'],
    ...['-P', wal],
    ...['-e', `inject=${inject}`],
  ])
  const done = nothingYet()
  const seen = { rotations: 0, progress: 0, refused: 0, reads: 0 }
  let token = family

  async function write(i: number): Promise<boolean> {
    const refresh = await api.request('POST', '/auth/refresh', { body: { refresh_token: token } })
    if (refresh.status === 200) {
      const child = refreshTokenOf(refresh.body)
      done.rotations.push({ parent: hashOf(token), child: hashOf(child) })
      token = child
    }
    const key = `key-${i}`
    const progress = await api.progress(agent, { ...pair, data: { i }, key })
    if (progress.status === 201) done.progress.push({ sessionId: pair.sessionId, key, seq: seqOf(progress.body) })
    const refused = [refresh, progress].filter(({ status }) => status >= 400)
    for (const { status, code, headers } of refused) {
      expect({ status, code }).toEqual({ status: 503, code: 'store_unavailable' })
      expect(headers.get('Retry-After')).toBe('1')
    }
    seen.refused += refused.length
    if (refused.length > 0) {
      expect((await api.request('GET', '/auth/me', { bearer: user.bearer })).status).toBe(200)
      expect((await api.request('GET', `/sessions/${pair.sessionId}/events`, { bearer: user.bearer })).status).toBe(200)
      seen.reads += 2
    }
    return refused.length === 0
  }

  let recovered = 0
  for (let i = 0; i < MOST_WRITES && recovered < 20; i++) {
    if ((await write(i)) && seen.refused > 0) recovered++
  }
  expect(seen.refused, 'refused writes').toBeGreaterThan(0)
  expect(recovered, 'writes in a row after the disk was well again').toBe(20)
  expect(server.isRunning()).toBe(true)
  await expectStored(databaseUrl, done)
  seen.rotations = done.rotations.length
  seen.progress = done.progress.length
  report(what, seen)
})

const CALLS = ['-y', '-s', '16', '-e', 'trace=pwrite64,fdatasync,write,writev']

/** In order of time: W a page in the WAL, S the end of a sync, A an answer. */
async function stepsOf(wal: string): Promise<string> {
  const trace = await readFile(`${wal}.trace`, 'utf8')
  const steps = trace.split('\n').flatMap((line) => {
    if (/pwrite64\(\d+<[^>]*-wal>/.test(line)) return 'W'
    if (/fdatasync.* = 0/.test(line)) return 'S'
    return /HTTP\/1\.1 20[01]/.test(line) ? 'A' : []
  })
  return steps.join('')
}

test.skipIf(!strace())(
  'what a killed process committed is on disk before anything is written or answered',
  async () => {
    const { wal, server } = await traced((wal) => [...CALLS, '-o', `${wal}.trace`], 'SIGKILL')
    await server.stop()
    expect(await stepsOf(wal)).toMatch(/^S/)
  },
)

test.skipIf(!strace())('an answer leaves the process after its write is on disk', async () => {
  const { api, agent, pair, wal, server } = await traced((wal) => [...CALLS, '-o', `${wal}.trace`])
  for (let i = 0; i < 10; i++) expect((await api.progress(agent, { ...pair, data: { i } })).status).toBe(201)
  await server.stop()
  const answered = (await stepsOf(wal)).split('A').slice(-11, -1)
  expect(answered).toHaveLength(10)
  for (const before of answered) expect(before).toMatch(/W.*S$/)
})
