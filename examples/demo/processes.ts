import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { readable } from './log.ts'

const NAME_WIDTH = 9
/** Only the beginning is remembered. */
const STARTING_LINES = 100
const isColored = process.stdout.isTTY && !process.env.NO_COLOR
const COLORS: Record<string, number> = { service: 36, livekit: 35, agent: 32, demo: 33 }

/** One line of the common log. */
export function say(name: string, line: string): void {
  const prefix = `${name.padEnd(NAME_WIDTH)}| `
  console.log((isColored ? `\u001b[${COLORS[name] ?? 0}m${prefix}\u001b[0m` : prefix) + line)
}

/** Process groups that were started and not stopped. */
const groups = new Set<number>()

// However this process ends, what it started ends with it.
process.on('exit', () => groups.forEach(killGroup))
// The log's reader has gone, as in `npm run demo | head`.
process.stdout.on('error', () => process.exit(1))

export interface Program {
  name: string
  /** The exit code, or the signal that ended it. */
  ended: Promise<number | string>
  /** Whether a line with this text was printed. */
  hasSaid: (text: string) => boolean
  stop: (signal: NodeJS.Signals, patienceMs: number) => Promise<void>
}

export interface ProgramOptions {
  cwd: string
  env: Record<string, string | undefined>
}

/** Starts a program whose lines go to the common log. It gets no Ctrl-C of its own: `stop` decides who goes first. */
export function program(name: string, command: string, args: string[], options: ProgramOptions): Program {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  if (child.pid !== undefined) groups.add(child.pid)
  const said: string[] = []
  for (const input of [child.stdout, child.stderr]) {
    createInterface({ input }).on('line', (line) => {
      if (said.length < STARTING_LINES) said.push(line)
      const text = readable(line)
      if (text !== undefined) say(name, text)
    })
  }
  const ended = new Promise<number | string>((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'gone'))
  })
  return {
    name,
    ended,
    hasSaid: (text) => said.some((line) => line.includes(text)),
    async stop(signal, patienceMs) {
      if (child.pid === undefined) return
      child.kill(signal)
      await Promise.race([ended, delay(patienceMs, undefined, { ref: false })])
      killGroup(child.pid)
      groups.delete(child.pid)
    },
  }
}

/** What a program started is stopped with it. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // The whole group is gone already.
  }
}

/** Runs to the end; what it printed. */
export async function output(command: string, args: string[], options: ProgramOptions): Promise<string> {
  const child: ChildProcess = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
  const printed = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.on('data', (chunk: Buffer) => {
      printed[stream] += String(chunk)
    })
  }
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(printed.stderr.trim() || `${command} ended with ${code}`)
  return printed.stdout
}
