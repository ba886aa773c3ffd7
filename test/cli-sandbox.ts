import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url))

export interface Outcome {
  code: number
  stdout: string
  stderr: string
}

/** A folder, with a database of its own unless one is named, and the built command line as a real process in it. */
export function cliSandbox(url?: string) {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-cli-'))
  const databasePath = join(folder, 'x.db')
  const databaseUrl = url ?? `file:${databasePath}`
  const start = (env: Record<string, string>, args: string[]) =>
    new Promise<Outcome>((resolve) => {
      const options = { cwd: folder, env: { PATH: process.env.PATH, ...env } }
      const child = execFile(process.execPath, [CLI, ...args], options, (_, stdout, stderr) =>
        resolve({ code: child.exitCode ?? -1, stdout, stderr }),
      )
    })
  const cli = (...args: string[]) => start({ DATABASE_URL: databaseUrl }, args)
  return {
    folder,
    databasePath,
    databaseUrl,
    start,
    cli,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}
