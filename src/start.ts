import { readFileSync } from 'node:fs'
import type { Logger } from 'pino'
import { createAgentAccounts } from './agent/accounts.ts'
import { createApp, type Service } from './app.ts'
import { loadSigningKeys } from './auth/keys.ts'
import { loadDotEnv } from './cli/dot-env.ts'
import { type Config, ConfigError, loadConfig } from './config.ts'
import { listen } from './http/server.ts'
import { createLiveKitClient } from './livekit/client.ts'
import { createLog } from './log.ts'
import { exitOnUncaught, onStopSignal, SHUTDOWN_TIMING, shutDown } from './shutdown.ts'
import { lockStore, StoreInUse } from './store/sqlite/lock.ts'
import { openStore, type Store } from './store/store.ts'

const PRUNE_MS = 60 * 60 * 1000
const FIRST_AGENT = 'dev-agent'

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
  loadDotEnv(process.env)
  const { config, secrets, warnings } = loadConfig(process.env)
  const log = createLog(config.logLevel)
  exitOnUncaught(log)
  for (const warning of warnings)
    banner(`WARNING: ${warning}`, 'Fine for development on this machine, never beyond it.')

  const lock = lockStore(config.databaseUrl)
  const store = await openStore(config.databaseUrl)
  if (!config.production) await makeFirstAgent(store)
  const { defaultAgent } = config
  if (defaultAgent !== undefined && !(await store.agents.findAgent(defaultAgent))) {
    banner(`WARNING: DEFAULT_AGENT=${defaultAgent} names no agent account: POST /token is refused until there is one.`)
  }
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  const keys = await loadSigningKeys(store.keys, store.clock)
  const livekit = createLiveKitClient(config.livekitUrl, secrets.livekit)
  const service = createApp({ config, secrets, store, keys, livekit, version, log })
  const closeExtension = extend?.(service)

  const server = listen(service.app.fetch, config)
  server.once('error', fail)
  server.once('listening', () => log.info(`serving on http://${config.host}:${config.port}`))
  if (!(await service.reconcile())) log.warn(`LiveKit at ${config.livekitUrl} did not answer; asking again soon`)
  service.health.ready = true
  const stopTimers = startTimers(service, store, config, log)
  const timing = config.production ? SHUTDOWN_TIMING : { ...SHUTDOWN_TIMING, notice: 0 }
  const stop = async () => {
    const { health, background, streams } = service
    const closeStreams = () => streams.close()
    await shutDown(
      { health, server, closeStreams, stopTimers, background, closeStore: () => store.close(), log },
      timing,
    )
    await closeExtension?.()
    lock.release()
  }
  onStopSignal(stop, timing.hardExit, log)
}

async function makeFirstAgent(store: Store): Promise<void> {
  const first = await createAgentAccounts({ agents: store.agents, clock: store.clock }).createFirst(FIRST_AGENT)
  if (first) banner('A first agent account, shown this once:', `AGENT_ID=${first.id}`, `AGENT_SECRET=${first.secret}`)
}

/** Returns a function that stops the timers and resolves when the work they started has ended. */
function startTimers(service: Service, store: Store, config: Config, log: Logger): () => Promise<void> {
  let timer: NodeJS.Timeout
  let isStopping = false
  let reconciling: Promise<unknown> = Promise.resolve()
  let pruning: Promise<unknown> = Promise.resolve()
  // Jitter keeps services that share a LiveKit from asking in step.
  const wait = () => config.reconcileSeconds * 1000 * (0.75 + Math.random() / 2)
  const next = () => {
    if (isStopping) return
    timer = setTimeout(() => {
      reconciling = Promise.allSettled([service.reconcile(), store.saveClock()]).finally(next)
    }, wait())
  }
  next()
  const prune = () => {
    pruning = service.prune().catch((err: unknown) => log.warn({ err }, 'pruning failed; it will be retried'))
  }
  prune()
  const hourly = setInterval(prune, PRUNE_MS)
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
  const isOurs = error instanceof ConfigError || error instanceof StoreInUse
  const isExpected = isOurs || (error as NodeJS.ErrnoException)?.code === 'EADDRINUSE'
  process.stderr.write(`${isExpected ? (error as Error).message : ((error as Error)?.stack ?? String(error))}\n`)
  process.exit(1)
}
