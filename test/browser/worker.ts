import { join } from 'node:path'
import type { Agent } from '../e2e/api.ts'
import { REPOSITORY, WORKER_FOLDER } from '../e2e/binaries.ts'
import { freeTcpPort, type RunningProcess, run, until } from '../e2e/processes.ts'
import { type Stack, useStack } from '../e2e/stack.ts'

/** The service as `npm run demo` starts it: with the agent's secret, so that the page can let the agent call. */
export function useDemoStack(agentName: string) {
  const env: Record<string, string> = { DEFAULT_AGENT: agentName }
  const program = ['--import', import.meta.resolve('tsx'), join(REPOSITORY, 'examples/demo/service.ts')]
  const stack = useStack({ env, program })
  return {
    stack,
    /** The service starts again then, with the agent's secret. */
    async createAgent(): Promise<Agent> {
      const { api, service } = stack()
      const agent = await api.agent(agentName)
      Object.assign(env, { BEHALF_URL: service.url, BEHALF_AGENT_ID: agent.id, BEHALF_AGENT_SECRET: agent.secret })
      await service.stop()
      await service.start()
      return agent
    },
  }
}

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
