import { agentPython, liveKitServer, workerInstalled } from './binaries.ts'

/** Says once what will be skipped; where skipping is not allowed, that ends the run. */
export default function setup(): void {
  const skipped = [
    ...(liveKitServer() ? [] : ['skipped: no livekit-server (set LIVEKIT_SERVER, or put livekit-server on PATH)']),
    ...(workerInstalled() ? [] : ['skipped: examples/agent-ts is not installed (npm ci --prefix examples/agent-ts)']),
    ...(agentPython()
      ? []
      : ['skipped: no Python with livekit-agents (AGENT_PYTHON="$(.ci/python-agent.sh)" makes one)']),
  ]
  if (skipped.length === 0) return
  for (const line of skipped) console.log(line)
  if (process.env.CI === 'true' || process.env.BEHALF_REQUIRE_ALL === '1') {
    throw new Error(`Nothing may be skipped here:\n${skipped.join('\n')}`)
  }
}
