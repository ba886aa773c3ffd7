import type { Environment, Print } from '../src/cli/command-line.ts'

export type Run = (
  argv: string[],
  env: Environment,
  out: Print,
  err: Print,
  readInput: () => Promise<string>,
) => Promise<number>

/** A command in this process: its exit code, and the lines that it printed. */
export async function outcomeOf(run: Run, argv: string[], env: Environment = {}, input = '') {
  const out: string[] = []
  const err: string[] = []
  const code = await run(
    argv,
    env,
    (line) => out.push(line),
    (line) => err.push(line),
    async () => input,
  )
  return { code, out, err }
}
