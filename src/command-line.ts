import { type ParseArgsConfig, parseArgs } from 'node:util'
import { ConfigError } from './config.ts'

/** Writes its text and a line end. */
export type Print = (line: string) => void

export type Environment = Record<string, string | undefined>

/** A command that cannot be understood: exit code 2. */
export class UsageError extends Error {}

/** `parseArgs`, with its refusals as UsageError. */
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
