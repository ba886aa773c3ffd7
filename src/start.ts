import { readFileSync } from 'node:fs'
import type { Logger } from 'pino'
import { createAgentAccounts } from './agent/accounts.ts'
import { createApp, type Service } from './app.ts'
import { loadSigningKeys } from './auth/keys.ts'
import { loadDotEnv } from './cli/dot-env.ts'
import { type Config, loadConfig } from './config.ts'
import { OperatorError } from './errors.ts'
import { listen } from './http/server.ts'
import { createLiveKitClient } from './livekit/client.ts'
import { createSkewWarning } from './livekit/clock-skew.ts'
import { createLog, toTerminal } from './log.ts'
import { createMetrics, type Metrics } from './metrics.ts'
import { listenForMetrics } from './ops/metrics-routes.ts'
import { exitOnEarlyStop, exitOnUncaught, onStopSignal, SHUTDOWN_TIMING, shutDown } from './shutdown.ts'
import { lockStore } from './store/sqlite/lock.ts'
import { isPostgres, openStore, type Store } from './store/store.ts'

const PRUNE_MS = 60 * 60 * 1000
/** The part of its interval after which regular work is due again, so that a lost turn delays it by no more than one. */
const DUE_AFTER = 0.75
const FIRST_AGENT = 'dev-agent'
const HOW_TO_GET_LIVEKIT =
  'Until LiveKit answers, no one can join. Start it: livekit-server --config livekit.yaml. Or start everything: npm run demo.'

export type { Service } from './app.ts'

export interface StartOptions {
  /** Adds a team's own routes, behind the same guard. The function it returns runs after the service has stopped. */
  // biome-ignore lint/suspicious/noConfusingVoidType: most extensions return nothing
  extend?: (service: Service) => void | (() => unknown)
}

/** Runs the service until a stop signal: settings from the environment, store, keys, LiveKit, HTTP. */
export function startService({ extend }: StartOptions = {}): void {
  start(extend).catch(fail)
}

async function start(extend?: StartOptions['extend']): Promise<void> {
  exitOnEarlyStop()
  loadDotEnv(process.env)
  const { config, secrets, warnings } = loadConfig(process.env)
  const log = createLog(config.logLevel, process.stdout.isTTY && !config.production ? toTerminal : undefined)
  exitOnUncaught(log)
  for (const warning of warnings) config.production ? log.warn(warning) : banner(...`WARNING: ${warning}`.split('\n'))

  // Several instances may share a PostgreSQL database.
  const lock = isPostgres(config.databaseUrl) ? null : lockStore(config.databaseUrl)
  const metrics = createMetrics()
  const store = await openStore(config.databaseUrl, {
    poolSize: config.databasePoolSize,
    committed: (writes) => metrics.commitWrites.observe(writes),
  })
  if (!config.production) await makeFirstAgent(store)
  const { defaultAgent } = config
  if (defaultAgent !== undefined && (await store.agents.findAgent(defaultAgent))?.disabledAt !== null) {
    banner(`WARNING: DEFAULT_AGENT=${defaultAgent} names no enabled agent account: users join without an agent.`)
  }
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  const keys = await loadSigningKeys(store.keys, store.clock)
  const reportSkew = createSkewWarning(log, store.clock, metrics)
  const livekit = createLiveKitClient(config.livekitUrl, secrets.livekit, { now: store.clock.now, reportSkew, metrics })
  const service = createApp({ config, secrets, store, keys, livekit, reportSkew, version, log, metrics })
  const closeExtension = extend?.(service)

  const server = listen(service.app.fetch, config)
  server.once('error', (error) => fail(explained(error, '', config.port, config.host)))
  startMetrics(metrics, config)
  server.once('listening', () => greet(config, log))
  const stopTimers = startTimers(service, store, config, metrics, log)
  const timing = config.production ? SHUTDOWN_TIMING : { ...SHUTDOWN_TIMING, notice: 0 }
  const stop = async () => {
    const { health, background, streams, gateway } = service
    const closeStreams = () => Promise.all([streams.close(), gateway.close()])
    await shutDown(
      { health, server, closeStreams, stopTimers, background, closeStore: () => store.close(), log },
      timing,
    )
    await closeExtension?.()
    lock?.release()
  }
  onStopSignal(stop, timing.hardExit, log)
}

async function makeFirstAgent(store: Store): Promise<void> {
  const first = await createAgentAccounts(store).createFirst(FIRST_AGENT)
  if (!first) return
  const { id, secret } = first
  banner(
    'The first agent account. Its secret is shown only now:',
    `BEHALF_AGENT_ID=${id}`,
    `BEHALF_AGENT_SECRET=${secret}`,
  )
}

function greet({ host, port, publicUrl, demo, production }: Config, log: Logger): void {
  log.info(`serving on http://${host}:${port}`)
  if (!production) log.info(`API reference: ${publicUrl}/docs${demo ? `, demo: ${publicUrl}/demo` : ''}`)
}

/** Until the process exits, so that the stop itself can be watched. */
function startMetrics(metrics: Metrics, { metricsPort, metricsHost }: Config): void {
  if (metricsPort === undefined) return
  const server = listenForMetrics(metrics, metricsPort, metricsHost)
  server.once('error', (error) => fail(explained(error, 'METRICS_', metricsPort, metricsHost)))
}

/** Why the service cannot listen, with the setting to change. */
function explained(error: NodeJS.ErrnoException, prefix: '' | 'METRICS_', port: number, host: string): Error {
  const { code } = error
  const here = `${prefix}PORT=${port} on ${prefix}HOST=${host}`
  if (code === 'EADDRINUSE') {
    return new OperatorError(
      `${here} is taken, perhaps by another Behalf: stop that program, or choose another ${prefix}PORT.`,
    )
  }
  if (code === 'EACCES')
    return new OperatorError(`${here} is reserved for the system: choose a ${prefix}PORT from 1024 on.`)
  if (code === 'EADDRNOTAVAIL' || error.syscall === 'getaddrinfo') {
    return new OperatorError(
      `${prefix}HOST=${host} is not an address of this machine: use 127.0.0.1, or 0.0.0.0 for all of them.`,
    )
  }
  return error
}

/**
 * Compares with LiveKit at once, which makes the service ready, and regularly from then on. Returns a function that
 * stops the timers and resolves when the work they started has ended.
 */
function startTimers(
  service: Service,
  store: Store,
  config: Config,
  metrics: Metrics,
  log: Logger,
): () => Promise<void> {
  let timer: NodeJS.Timeout | undefined
  let isStopping = false
  let hourly: NodeJS.Timeout | undefined
  let pruning: Promise<unknown> = Promise.resolve()
  const interval = config.reconcileSeconds * 1000
  // Jitter keeps services that share a LiveKit from asking in step.
  const wait = () => interval * (0.75 + Math.random() / 2)
  const next = (milliseconds = wait()) => {
    if (isStopping) return
    timer = setTimeout(() => {
      const turn = reconcileInTurn().catch(() => undefined)
      reconciling = Promise.allSettled([turn, store.saveClock()]).then(async () => next(await turn))
    }, milliseconds)
  }
  /** Resolves to the milliseconds until the turn of another instance has passed, if this one has none. */
  const reconcileInTurn = async () => {
    const left = await store.takeTurn('reconcile', interval * DUE_AFTER)
    if (left > 0) {
      // The instance that has the turn counts them.
      metrics.sessions.reset()
      return left + Math.random() * interval * (1 - DUE_AFTER)
    }
    await service.reconcile()
    return undefined
  }
  const prune = () => {
    pruning = store
      .takeTurn('prune', PRUNE_MS * DUE_AFTER)
      .then((left) => (left > 0 ? undefined : service.prune()))
      .catch((err: unknown) => log.warn({ err }, 'pruning failed; it will be retried'))
  }
  const boot = async () => {
    // Without waiting for a turn: the instance that had the last one may have died during it.
    if (!(await service.reconcile()) && !config.production) log.info(HOW_TO_GET_LIVEKIT)
    if (isStopping) return
    service.health.ready = true
    next()
    prune()
    hourly = setInterval(prune, PRUNE_MS)
  }
  let reconciling: Promise<unknown> = boot()
  return async () => {
    isStopping = true
    clearTimeout(timer)
    clearInterval(hourly)
    await Promise.all([reconciling, pruning])
  }
}

function banner(...lines: string[]): void {
  const rule = '='.repeat(Math.max(...lines.map((line) => line.length)))
  process.stderr.write(`\n${[rule, ...lines, rule].join('\n')}\n\n`)
}

function fail(error: unknown): void {
  const text = error instanceof OperatorError ? error.message : ((error as Error)?.stack ?? String(error))
  process.stderr.write(`${text}\n`)
  process.exit(1)
}
