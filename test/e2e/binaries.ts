import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
export const WORKER_FOLDER = join(REPOSITORY, 'examples/agent-ts')

/** The livekit-server to test against: `LIVEKIT_SERVER`, else the one on PATH. */
export function liveKitServer(): string | undefined {
  const named = process.env.LIVEKIT_SERVER
  // A name that is set but wrong must not turn into a silent skip.
  if (named) {
    accessSync(named, constants.X_OK)
    return named
  }
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  return folders.map((folder) => join(folder, 'livekit-server')).find(isExecutable)
}

export const PYTHON_PACKAGE = join(REPOSITORY, 'packages/python')

/** `AGENT_PYTHON`: a Python with the packages of examples/agent-python and the tools of packages/python. */
export function agentPython(): string | undefined {
  const named = process.env.AGENT_PYTHON
  if (named) accessSync(named, constants.X_OK)
  return named || undefined
}

export const workerInstalled = () => existsSync(join(WORKER_FOLDER, 'node_modules/@livekit/agents/package.json'))

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
