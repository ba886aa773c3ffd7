import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const CLI = fileURLToPath(new URL('../src/cli.ts', import.meta.url))
const TSX = import.meta.resolve('tsx')

export interface Outcome {
  code: number
  stdout: string
  stderr: string
}

/** A folder with a database of its own, and the command line as a real process in it. */
export function workplace() {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-cli-'))
  const databasePath = join(folder, 'x.db')
  const databaseUrl = `file:${databasePath}`
  const cli = (...args: string[]) =>
    new Promise<Outcome>((resolve) => {
      const options = { cwd: folder, env: { PATH: process.env.PATH, DATABASE_URL: databaseUrl } }
      const child = execFile(process.execPath, ['--import', TSX, CLI, ...args], options, (_, stdout, stderr) =>
        resolve({ code: child.exitCode ?? -1, stdout, stderr }),
      )
    })
  return { folder, databasePath, databaseUrl, cli, remove: () => rmSync(folder, { recursive: true, force: true }) }
}
