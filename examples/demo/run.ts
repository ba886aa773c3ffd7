import '../../src/node-version.ts'
import '../../src/npm-shell.ts'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { loadDotEnv } from '../../src/cli/dot-env.ts'
import { askLiveKit, findLiveKit, HOW_TO_GET_LIVEKIT, liveKitConfig } from './livekit.ts'
import { freePort } from './ports.ts'
import { output, type Program, program, say } from './processes.ts'

// Everything that the demo page needs, in one terminal: the service, livekit-server, the example agent.   npm run demo

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
const AGENT_FOLDER = join(REPOSITORY, 'examples/agent-ts')
const AGENT = 'demo-agent'
const READY_SECONDS = 30

const HELP = `Starts the service, a LiveKit server and the example agent in one terminal, and prints the address of the demo page.
Ctrl-C stops it all.   npm run demo

Optional, in the environment, .env.local or .env:
  PORT                  the service's port (8008)
  LIVEKIT_SERVER        the livekit-server program, if it is not on the PATH
  LIVEKIT_URL           a LiveKit that runs already, with LIVEKIT_API_KEY and LIVEKIT_API_SECRET
  DATABASE_URL          the demo's database (file:./data/demo.db)`

if (process.argv.length > 2) {
  console.log(HELP)
  process.exit(['--help', '-h'].includes(process.argv[2] ?? '') ? 0 : 2)
}
loadDotEnv(process.env)
const given = process.env
const port = Number(given.PORT || 8008)
// Without LIVEKIT_URL, the demo uses the server of livekit.yaml, with its keys.
const livekitUrl = given.LIVEKIT_URL || 'ws://127.0.0.1:7880'
const keys = {
  LIVEKIT_API_KEY: (given.LIVEKIT_URL && given.LIVEKIT_API_KEY) || 'devkey',
  LIVEKIT_API_SECRET: (given.LIVEKIT_URL && given.LIVEKIT_API_SECRET) || 'secret',
}
const env = {
  ...given,
  ...keys,
  NODE_ENV: 'development',
  PORT: String(port),
  LIVEKIT_URL: livekitUrl,
  // A separate database, so that the demo does not affect `npm start`.
  DATABASE_URL: given.DATABASE_URL || 'file:./data/demo.db',
  DEFAULT_AGENT: AGENT,
  DEMO: 'on',
  GUESTS: 'on',
}

const started: Program[] = []
let isStopping = false

/** When one program ends unexpectedly, the whole demo ends: half of it would only confuse. */
function start(
  name: string,
  command: string,
  args: string[],
  cwd = REPOSITORY,
  more: Record<string, string> = {},
): Program {
  const child = program(name, command, args, { cwd, env: { ...env, ...more } })
  started.push(child)
  void child.ended.then((how) => {
    if (!isStopping) void stop(1, `${name} ended unexpectedly (${how}). Its last lines above say why.`)
  })
  return child
}

/** The agent first, then the service. LiveKit would wait for the browser to leave, so it is killed. */
async function stop(code: number, why: string): Promise<void> {
  if (isStopping) return
  isStopping = true
  say('demo', why)
  const [livekit, others] = [
    started.filter(({ name }) => name === 'livekit'),
    started.filter(({ name }) => name !== 'livekit'),
  ]
  await Promise.all(others.map((child) => child.stop('SIGINT', 4_000)))
  await Promise.all(livekit.map((child) => child.stop('SIGKILL', 1_000)))
  if (started.length > 0) say('demo', 'Everything is stopped.')
  process.exit(code)
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // A second signal means that the user does not want to wait.
    if (isStopping) void Promise.all(started.map((child) => child.stop('SIGKILL', 0))).then(() => process.exit(130))
    else void stop(0, 'Stopping everything …')
  })
}

async function installAgent(): Promise<void> {
  if (existsSync(join(AGENT_FOLDER, 'node_modules/@livekit/agents/package.json'))) return
  say('demo', "Installing the example agent's packages (once, about a minute): npm ci --prefix examples/agent-ts")
  await output('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: AGENT_FOLDER, env: given })
}

/** The agent's account, with a new secret each time, so that no file keeps one. */
async function agentSecret(): Promise<string> {
  const cli = join(REPOSITORY, 'dist/cli.js')
  const run = (command: string) =>
    output(process.execPath, [cli, 'agent', command, AGENT, '--json'], { cwd: REPOSITORY, env })
  const printed = await run('create').catch(() => run('rekey'))
  return (JSON.parse(printed) as { secret: string }).secret
}

/** @returns whether there is a LiveKit server, started here or already running. */
async function startLiveKit(): Promise<boolean> {
  const isLocal = !given.LIVEKIT_URL
  const running = await askLiveKit(livekitUrl, keys.LIVEKIT_API_KEY, keys.LIVEKIT_API_SECRET)
  if (running === 'ours') {
    say('demo', `Using the LiveKit server that already runs at ${livekitUrl}.`)
    return true
  }
  if (running === 'other') {
    throw new Error(
      isLocal
        ? 'Port 7880 is taken by something other than a LiveKit server with the key devkey. Stop it, or set LIVEKIT_URL and its keys.'
        : `${livekitUrl} does not accept LIVEKIT_API_KEY and LIVEKIT_API_SECRET.`,
    )
  }
  if (!isLocal) throw new Error(`Nothing answers at LIVEKIT_URL=${livekitUrl}.`)
  const binary = findLiveKit(given.LIVEKIT_SERVER, given.PATH)
  if (!binary) return false
  if (!(await freePort(7881)) || !(await freePort(7882, 'udp'))) {
    throw new Error('Port 7881 or 7882 is taken: livekit-server needs both for media. Is another one still running?')
  }
  start('livekit', binary, ['--config', await liveKitConfig(REPOSITORY, port)])
  await until('livekit-server answers', async () => (await fetch('http://127.0.0.1:7880/')).ok)
  return true
}

async function startService(account: Record<string, string>): Promise<void> {
  start(
    'service',
    process.execPath,
    ['--import', 'tsx', join(REPOSITORY, 'examples/demo/service.ts')],
    REPOSITORY,
    account,
  )
  await until('the service is ready', async () => (await fetch(`http://127.0.0.1:${port}/health/ready`)).ok)
}

async function startAgent(account: Record<string, string>): Promise<void> {
  const workerPort = await freePort(0)
  const agent = start('agent', process.execPath, ['--import', 'tsx', 'worker.ts', 'start'], AGENT_FOLDER, {
    ...account,
    WORKER_PORT: String(workerPort),
    REPORT_SECONDS: '1',
  })
  await until('the agent is registered with LiveKit', async () => agent.hasSaid('registered worker'))
}

async function until(what: string, ask: () => Promise<boolean>, seconds = READY_SECONDS): Promise<void> {
  const deadline = Date.now() + seconds * 1000
  while (!isStopping) {
    if (await ask().catch(() => false)) return
    if (Date.now() > deadline) throw new Error(`Gave up after ${seconds} seconds of waiting until ${what}.`)
    await delay(100)
  }
}

function invite(): void {
  const lines = [
    `Open  http://localhost:${port}/demo`,
    'continue as guest, start the call, and speak.  Ctrl-C stops everything.',
  ]
  const rule = '='.repeat(Math.max(...lines.map(({ length }) => length)))
  console.log(`\n${[rule, ...lines, rule].join('\n')}\n`)
}

async function main(): Promise<void> {
  if (!(await freePort(port))) {
    throw new Error(`Port ${port} is taken, perhaps by another Behalf. Stop it, or choose one: PORT=8009 npm run demo`)
  }
  await installAgent()
  const account = {
    BEHALF_URL: `http://127.0.0.1:${port}`,
    BEHALF_AGENT_ID: AGENT,
    BEHALF_AGENT_SECRET: await agentSecret(),
  }
  const hasLiveKit = await startLiveKit()
  await startService(account)
  if (!hasLiveKit) console.log(`\n${HOW_TO_GET_LIVEKIT}`)
  else await startAgent(account)
  invite()
  if (hasLiveKit) return
  await until(
    'a LiveKit server answers',
    async () => (await fetch('http://127.0.0.1:7880/')).ok,
    Number.POSITIVE_INFINITY,
  )
  if (!isStopping) await startAgent(account)
}

main().catch((error: unknown) => stop(1, error instanceof Error ? error.message : String(error)))
