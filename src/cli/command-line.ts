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

type Options = NonNullable<ParseArgsConfig['options']>
type Values<O extends Options> = ReturnType<typeof parseArgs<{ options: O }>>['values']

interface Tool<O extends Options, Command> {
  help: string
  /** Besides --help. */
  options: O
  /** Whether an argument may be a token, which no error may repeat. */
  takesToken?: boolean
  /** @throws UsageError */
  parse: (positionals: string[], values: Values<O>) => Command
  /** @returns the exit code, 0 or 1 */
  execute: (command: Command, env: Environment, out: Print, readStdin: () => Promise<string>) => Promise<number>
}

/**
 * Makes a command. Results go to `out`, an error as one line to `err`, with terminal control characters escaped.
 * @returns a function that returns the exit code: 1 if the command failed, 2 if it or the settings are invalid
 */
export function createCommand<O extends Options, Command>({
  help,
  options,
  parse,
  execute,
  ...tool
}: Tool<O, Command>) {
  return async (
    argv: string[],
    env: Environment,
    out: Print,
    err: Print,
    readStdin: () => Promise<string>,
  ): Promise<number> => {
    try {
      const { values, positionals } = readArguments(argv, options, tool.takesToken)
      if (values.help) {
        out(help)
        return 0
      }
      const print = (text: string) => out(text.split('\n').map(printable).join('\n'))
      return await execute(parse(positionals, values as Values<O>), env, print, readStdin)
    } catch (error) {
      err(printable(oneLine(error)))
      return error instanceof UsageError || error instanceof ConfigError ? 2 : 1
    }
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

function readArguments(args: string[], options: Options, takesToken = false) {
  try {
    return parseArgs({ args, allowPositionals: true, options: { ...options, help: { type: 'boolean', short: 'h' } } })
  } catch (error) {
    throw new UsageError(takesToken ? 'Unknown option; see --help.' : oneLine(error))
  }
}

/** An error as one line. */
export function oneLine(error: unknown): string {
  const text =
    error instanceof ConfigError ? error.problems.join('; ') : error instanceof Error ? error.message : String(error)
  return text.replace(/\s+/g, ' ')
}

/** ISO 8601, or null. */
export const isoOrNull = (at: number | null) => (at === null ? null : new Date(at).toISOString())
