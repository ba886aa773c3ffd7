import type { Server, ServerResponse } from 'node:http'
import type { Logger } from 'pino'

/** Milliseconds. */
interface ShutdownTiming {
  /** How long load balancers may keep sending after /health/ready has said no. */
  notice: number
  /** How long running requests may take before their connections are cut. */
  drain: number
  /** Counted from the signal; the process then exits, and the next start recovers as after a crash. */
  hardExit: number
}

export const SHUTDOWN_TIMING: ShutdownTiming = { notice: 3_000, drain: 10_000, hardExit: 15_000 }

interface ShutdownDeps {
  health: { ready: boolean }
  server: Pick<Server, 'close' | 'closeIdleConnections' | 'closeAllConnections' | 'prependListener'>
  /** Ends event streams and workers' connections; resolves when all have closed. */
  closeStreams: () => Promise<unknown>
  /** Stops the timers; resolves when the work they started has ended. */
  stopTimers: () => Promise<void>
  background: { idle(): Promise<void> }
  /** Settles the last writes, checkpoints and closes. */
  closeStore: () => Promise<void>
  log: Pick<Logger, 'warn'>
}

/** Keep-alive connections are closed soon after their last response. */
const IDLE_LOOK_MS = 100

/** Accepts no new work, finishes what is running, closes the store. Resolves even if not everything finished. */
export async function shutDown(deps: ShutdownDeps, timing: ShutdownTiming): Promise<void> {
  const { health, server, closeStreams, stopTimers, background, closeStore, log } = deps
  health.ready = false
  // Clients that keep their connection busy leave it with this answer; closing it later would cut off a request.
  server.prependListener('request', (_, response: ServerResponse) => {
    response.shouldKeepAlive = false
  })
  await new Promise((resolve) => setTimeout(resolve, timing.notice))
  const settled = closed(server).then(() => background.idle())
  const finished = await within(timing.drain, Promise.all([closeStreams(), stopTimers(), settled]))
  if (!finished) {
    log.warn('not everything finished in time; closing the remaining connections')
    server.closeAllConnections()
  }
  await closeStore()
}

function closed(server: ShutdownDeps['server']): Promise<void> {
  return new Promise((resolve) => {
    // An immediate runs after sockets were read, so a connection whose next request has arrived does not count as idle.
    const looking = setInterval(() => setImmediate(() => server.closeIdleConnections()), IDLE_LOOK_MS)
    setImmediate(() => {
      server.close(() => {
        clearInterval(looking)
        resolve()
      })
    })
  })
}

async function within(milliseconds: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds)
  })
  try {
    return await Promise.race([work.then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}

const STOP_SIGNALS = ['SIGTERM', 'SIGINT'] as const

/** Until the service has started a stop signal ends it at once. As PID 1 of a container it would otherwise not hear it. */
export function exitOnEarlyStop(): void {
  for (const signal of STOP_SIGNALS) process.once(signal, exitAtOnce)
}
const exitAtOnce = () => process.exit(0)

/** Runs `stop` once, at the first signal. The second one, an error, or a stop that takes too long exits with 1. */
export function onStopSignal(stop: () => Promise<void>, hardExitMs: number, log: Logger): void {
  let isStopping = false
  const handle = (signal: NodeJS.Signals) => {
    if (isStopping) {
      log.warn(`${signal} again: exiting at once`)
      process.exit(1)
    }
    isStopping = true
    log.info(`${signal}: stopping`)
    setTimeout(() => {
      log.error('not stopped in time: exiting')
      process.exit(1)
    }, hardExitMs).unref()
    stop().then(
      () => process.exit(0),
      (err: unknown) => {
        log.error({ err }, 'stopping failed')
        process.exit(1)
      },
    )
  }
  for (const signal of STOP_SIGNALS) process.off(signal, exitAtOnce).on(signal, handle)
}

/** Crash-only: after an unexpected error no in-memory state can be trusted, and the start path is the recovery path. */
export function exitOnUncaught(log: Logger): void {
  const exit = (kind: string) => (err: unknown) => {
    log.fatal({ err }, kind)
    process.exit(1)
  }
  process.on('uncaughtException', exit('uncaught exception'))
  process.on('unhandledRejection', exit('unhandled rejection'))
}
