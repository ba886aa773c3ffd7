import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../../examples/demo/ports.ts'

export interface RunningProcess {
  pid: number | undefined
  /** Everything it printed, for the report of a failure. */
  log: () => string
  isRunning: () => boolean
  /** Null while it runs, and when a signal ended it. */
  exitCode: () => number | null
  /** Resolves when it is gone; kills it when the signal is not enough. */
  stop: (signal?: NodeJS.Signals) => Promise<void>
}

export interface ProcessOptions {
  cwd?: string
  env?: Record<string, string>
  /** Milliseconds from the signal to SIGKILL. */
  patience?: number
}

/** A child process in a group of its own, so that what it starts ends with it. */
export function run(
  command: string,
  args: string[],
  { cwd, env = {}, patience = 5_000 }: ProcessOptions = {},
): RunningProcess {
  const child = spawn(command, args, {
    cwd,
    // Nothing of the caller's settings reaches the process under test, only what finding programs needs.
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  const chunks: string[] = []
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => chunks.push(String(chunk)))
  child.on('error', (error) => chunks.push(`${error.message}\n`))
  const isRunning = () => child.pid !== undefined && child.exitCode === null && child.signalCode === null
  return {
    pid: child.pid,
    log: () => chunks.join(''),
    isRunning,
    exitCode: () => child.exitCode,
    async stop(signal = 'SIGTERM') {
      if (!isRunning()) return killGroup(child, 'SIGKILL')
      const gone = once(child, 'exit')
      // npm's shell passes no signal on: all of them get it, as from a terminal.
      if (command === 'npm') killGroup(child, signal)
      else child.kill(signal)
      const inTime = await Promise.race([gone.then(() => true), delay(patience, false, { ref: false })])
      killGroup(child, 'SIGKILL')
      if (!inTime) await gone
    },
  }
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // The whole group is gone already.
  }
}

/** Runs to the end; its stdout. */
export async function output(command: string, args: string[], options: ProcessOptions = {}): Promise<string> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += String(chunk)
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += String(chunk)
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${stderr}${stdout}`)
  return stdout
}

/** A LiveKit that never answers, whatever runs on this machine: nothing can listen on port 0. */
export const NO_LIVEKIT = 'ws://127.0.0.1:0'

export const freeTcpPort = () => freeBelowEphemeral('tcp')
export const freeUdpPort = () => freeBelowEphemeral('udp')

/** Below the ports that systems give out by themselves, so that no other test takes it before it is used. */
async function freeBelowEphemeral(kind: 'tcp' | 'udp'): Promise<number> {
  for (;;) {
    const port = await freePort(randomInt(10_000, 30_000), kind)
    if (port !== undefined) return port
  }
}

/** Asks until the answer is neither undefined nor false; fails with `what` and the last answer's error at the deadline. */
export async function until<T>(
  what: string,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
  seconds = 15,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000
  let last: unknown
  while (Date.now() < deadline) {
    try {
      const answer = await ask()
      if (answer !== undefined && answer !== false) return answer
      last = answer
    } catch (error) {
      last = error
    }
    await delay(20)
  }
  throw new Error(`not within ${seconds} s: ${what}${last instanceof Error ? ` (${last.message})` : ''}`, {
    cause: last,
  })
}

/** Looks again and again for so long: for what must not happen, which has no moment to wait for. */
export async function holds(what: string, seconds: number, check: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + seconds * 1000
  for (let looks = 1; Date.now() < deadline; looks++) {
    try {
      await check()
    } catch (error) {
      throw new Error(`not at look ${looks}: ${what} (${error instanceof Error ? error.message : error})`, {
        cause: error,
      })
    }
    await delay(100)
  }
}
