import type { Agent } from '../e2e/api.ts'
import { WORKER_FOLDER } from '../e2e/binaries.ts'
import { freeTcpPort, type RunningProcess, run, until } from '../e2e/processes.ts'
import type { Stack } from '../e2e/stack.ts'

/** The real worker of examples/agent-ts; resolves when LiveKit knows it. */
export async function startWorker({ api, livekit }: Stack, { id, secret }: Agent): Promise<RunningProcess> {
  const worker = run(process.execPath, ['--import', 'tsx', 'worker.ts', 'start'], {
    cwd: WORKER_FOLDER,
    env: {
      BEHALF_URL: api.url,
      BEHALF_AGENT_ID: id,
      BEHALF_AGENT_SECRET: secret,
      LIVEKIT_URL: livekit.url,
      WORKER_PORT: String(await freeTcpPort()),
      REPORT_SECONDS: '1',
    },
  })
  await until('the worker is registered', () => worker.log().includes('registered worker'), 30).catch((error) => {
    throw new Error(`the worker did not start:\n${worker.log()}`, { cause: error })
  })
  return worker
}
