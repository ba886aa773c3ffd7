import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, onTestFailed, onTestFinished, test } from 'vitest'
import { freeTcpPort } from '../e2e/processes.ts'
import { service } from '../e2e/service.ts'
import { startSfu } from '../sfu.ts'
import { mixedLoad, nothingYet } from './load.ts'
import { report, SEED, sized } from './size.ts'
import { expectStored } from './stored.ts'

const KILLS = sized(20, 200)
const CLIENTS = 4
/** The latest moment of a kill after the load has begun. */
const LATEST_MS = 400

const ENV = { LOG_LEVEL: 'warn', GUESTS_PER_ADDRESS_PER_HOUR: '100000', LIVENESS_SECONDS: '60' }

test(`kill -9 at ${KILLS} random moments loses nothing that was acknowledged`, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-crash-'))
  const sfu = await startSfu()
  const behalf = await service({ folder, port: await freeTcpPort(), livekitUrl: sfu.url, env: ENV })
  onTestFailed(() => console.log(behalf.log().split('\n').slice(-40).join('\n')))
  onTestFinished(async () => {
    await behalf.stop('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  })
  await behalf.start()
  const load = await mixedLoad(behalf, sfu, CLIENTS)
  // Evenly spread: fast-check's own choice prefers 0, and ten kills before anything is answered outlast the 10 s in which a
  // refresh token may be presented again.
  const moments = fc.sample(fc.noBias(fc.integer({ min: 0, max: LATEST_MS })), { numRuns: KILLS, seed: SEED })
  const all = nothingYet()
  const started = performance.now()
  for (const ms of moments) {
    let running = true
    const loading = load.run(() => running)
    await delay(ms)
    await behalf.stop('SIGKILL')
    running = false
    const done = await loading
    // Nothing but the broken connection: also a refresh that the crash before cut off succeeded when tried again.
    expect(
      done.failures.filter((failure) => !failure.includes('fetch failed') && !failure.includes('terminated')),
    ).toEqual([])
    await behalf.start()
    await expectStored(behalf.databaseUrl, done)
    all.rotations.push(...done.rotations)
    all.webhooks.push(...done.webhooks)
    all.progress.push(...done.progress)
  }
  await expectStored(behalf.databaseUrl, all)
  expect(Math.min(all.rotations.length, all.webhooks.length, all.progress.length)).toBeGreaterThan(KILLS / 2)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  const { rotations, webhooks, progress } = all
  const counts = { rotations: rotations.length, webhooks: webhooks.length, progress: progress.length }
  report('kill -9', { seed: SEED, kills: KILLS, ...counts, lost: 0, seconds })
})
