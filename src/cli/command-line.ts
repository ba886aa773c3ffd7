import { type ParseArgsConfig, parseArgs } from 'node:util'
import { ConfigError, misspelt } from '../config.ts'
import { printable } from '../http/text.ts'
import { loadDotEnv } from './dot-env.ts'

/** Writes its text and a line end. */
export type Print = (line: string) => void

export type Environment = Record<string, string | undefined>

/** An invalid command line. */
export class UsageError extends Error {}

export const EXIT_CODES = 'Exit codes: 0 success; 1 failure; 2 invalid command or settings.'

interface Tool<Command> {
  help: string
  /** @throws UsageError */
  parse: (args: string[]) => Command | 'help'
  /** @returns the exit code, 0 or 1 */
  execute: (command: Command, env: Environment, out: Print) => Promise<number>
}

/**
 * Runs one command: results go to `out`, an error as one line to `err`, with terminal control characters escaped.
 * @returns the exit code: 1 if the command failed, 2 if it or the settings are invalid
 */
export async function runCommand<Command>(
  { help, parse, execute }: Tool<Command>,
  argv: string[],
  env: Environment,
  out: Print,
  err: Print,
): Promise<number> {
  try {
    const command = parse(argv)
    if (command !== 'help')
      return await execute(command, env, (text) => out(text.split('\n').map(printable).join('\n')))
    out(help)
    return 0
  } catch (error) {
    err(printable(oneLine(error)))
    return error instanceof UsageError || error instanceof ConfigError ? 2 : 1
  }
}

/** Adds the settings of env files. @returns false, with the reason on `err`, when these cannot be understood */
export function readDotEnv(env: Environment, err: Print): boolean {
  try {
    loadDotEnv(env)
    for (const warning of misspelt(env)) err(`WARNING: ${warning}`)
    return true
  } catch (error) {
    err(oneLine(error))
    return false
  }
}

/** `parseArgs`, with its errors as UsageError. */
export function readArguments<T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config)
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

/** An error as one line. */
export function oneLine(error: unknown): string {
  const text =
    error instanceof ConfigError ? error.problems.join('; ') : error instanceof Error ? error.message : String(error)
  return text.replace(/\s+/g, ' ')
}
