import { join } from 'node:path'
import { newDatabase } from '../database.ts'
import { REPOSITORY } from './binaries.ts'
import { freeTcpPort, type RunningProcess, run, until } from './processes.ts'

export interface Service {
  url: string
  databaseUrl: string
  /** Resolves when /health/ready says so. */
  start: () => Promise<void>
  stop: (signal?: NodeJS.Signals) => Promise<void>
  log: () => string
  /** Undefined while it does not run. */
  pid: () => number | undefined
}

export interface ServiceOptions {
  folder: string
  port: number
  livekitUrl: string
  /** A new one if not given. */
  databaseUrl?: string
  env?: Record<string, string>
  /** What `node` runs; the built service if not given. */
  program?: string[]
}

const BUILT = [join(REPOSITORY, 'dist/server.js')]

export const servicePort = freeTcpPort

/** The service as its own process, on whichever store the project is about. */
export async function service(options: ServiceOptions): Promise<Service> {
  const { folder, port, livekitUrl, env = {}, program = BUILT } = options
  const databaseUrl = options.databaseUrl ?? (await newDatabase({ lasts: true }))
  const url = `http://127.0.0.1:${port}`
  const logs: string[] = []
  let server: RunningProcess | undefined
  return {
    url,
    databaseUrl,
    async start() {
      const started = run(process.execPath, program, {
        cwd: folder,
        env: { HOST: '127.0.0.1', PORT: String(port), DATABASE_URL: databaseUrl, LIVEKIT_URL: livekitUrl, ...env },
        patience: 15_000,
      })
      server = started
      await until('the service is ready', async () => {
        if (!started.isRunning()) return false
        return (await fetch(`${url}/health/ready`)).ok
      }).catch((error: unknown) => {
        throw new Error(`the service did not start:\n${started.log()}`, { cause: error })
      })
    },
    async stop(signal = 'SIGTERM') {
      await server?.stop(signal)
      if (server) logs.push(server.log())
      server = undefined
    },
    pid: () => (server?.isRunning() ? server.pid : undefined),
    log: () => [...logs, server?.log() ?? ''].join(''),
  }
}
