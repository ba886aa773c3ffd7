import { createApp } from '../src/app.ts'
import { loadSigningKeys } from '../src/auth/keys.ts'
import type { TimeSource } from '../src/clock.ts'
import { loadConfig } from '../src/config.ts'
import { createLiveKitClient } from '../src/livekit/client.ts'
import { createSkewWarning } from '../src/livekit/clock-skew.ts'
import { createLog } from '../src/log.ts'
import { createMetrics } from '../src/metrics.ts'
import { openStore } from '../src/store/store.ts'
import { closeLater, newDatabase } from './database.ts'
import { documented } from './documented.ts'
import { logbook, noteSecrets } from './logged.ts'
import type { Sfu } from './sfu.ts'

/** An address where nothing listens. */
const CLOSED_PORT = 'ws://127.0.0.1:2'

/** The time of a machine that tests move by hand: that of its wall clock, and that which really passes. */
export function testClock(start = Date.now()) {
  let wall = start
  let elapsed = 0
  return {
    now: () => wall,
    wall: () => wall,
    elapsed: () => elapsed,
    /** What a wall clock shows that is never set. */
    right: () => start + elapsed,
    /** Seconds pass. */
    advance: (seconds: number) => {
      // Whole milliseconds, as a real clock's.
      wall += Math.round(seconds * 1000)
      elapsed += Math.round(seconds * 1000)
    },
    /** The wall clock is set, ahead or back by that many seconds, and no time passes. */
    step: (seconds: number) => {
      wall += seconds * 1000
    },
  }
}

export type TestClock = ReturnType<typeof testClock> & Pick<TimeSource, 'behind'>

export interface TestAppOptions {
  /** Settings as environment variables. */
  env?: Record<string, string>
  databaseUrl?: string
  /** The fake LiveKit that the app asks; without it LiveKit cannot be reached. */
  sfu?: Pick<Sfu, 'url'>
  /** The clock of another app, for a restart. */
  clock?: TestClock
  /** What the store reads instead, such as a time that instances share. */
  time?: TimeSource
  /** How long LiveKit may take to answer, for a test that makes it wait for longer than that. */
  timeoutMs?: number
}

/** The real app on a database of its own, with a clock to move. */
export async function makeApp({
  env = {},
  databaseUrl,
  sfu,
  clock = testClock(),
  time = clock,
  timeoutMs = 2000,
}: TestAppOptions = {}) {
  const { config, secrets } = loadConfig({
    LOG_LEVEL: 'debug',
    DATABASE_URL: databaseUrl ?? (await newDatabase()),
    LIVEKIT_URL: sfu?.url ?? CLOSED_PORT,
    ...env,
  })
  const { destination, logged } = logbook()
  const metrics = createMetrics()
  const committed = (writes: number) => metrics.commitWrites.observe(writes)
  const store = closeLater(await openStore(config.databaseUrl, { time, poolSize: 4, committed }))
  const keys = await loadSigningKeys(store.keys, store.clock)
  const log = createLog(config.logLevel, destination)
  const reportSkew = createSkewWarning(log, store.clock, metrics)
  const deps = { now: store.clock.now, reportSkew, metrics, timeoutMs }
  const livekit = createLiveKitClient(config.livekitUrl, secrets.livekit, deps)
  const service = createApp({
    config,
    secrets,
    store,
    keys,
    livekit,
    reportSkew,
    version: '0.0.0-test',
    log,
    metrics,
  })
  const bare = service.app.fetch
  documented(service.app)
  noteSecrets(service.app)
  return { ...service, bare, logged, config, secrets, store, keys, livekit, clock }
}

export type TestApp = Awaited<ReturnType<typeof makeApp>>

/** POSTs JSON, with a bearer if given. */
export const post = (
  app: TestApp['app'],
  path: string,
  body: unknown,
  bearer?: string,
  headers: Record<string, string> = {},
) =>
  app.request(path, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}),
      ...headers,
    },
    body: JSON.stringify(body),
  })
