import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { freeTcpPort, NO_LIVEKIT, type RunningProcess, run, until } from './e2e/processes.ts'

const START = fileURLToPath(new URL('../dist/start.js', import.meta.url))
const SERVER = fileURLToPath(new URL('../dist/server.js', import.meta.url))

let folder: string
const running: RunningProcess[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'behalf-start-'))
})
afterEach(async () => {
  await Promise.all(running.splice(0).map((process) => process.stop('SIGKILL')))
  rmSync(folder, { recursive: true, force: true })
})

/** Routes that fail outside any request. */
const TRAPS = `({ app }) => {
  app.get('/throws-later', (c) => { setTimeout(() => { throw new Error('thrown later') }); return c.text('yet') })
  app.get('/rejects-later', (c) => { Promise.reject(new Error('rejected later')); return c.text('yet') })
}`

/** The built service as its own process, on the folder's database and without LiveKit. */
async function launch(settings: Record<string, string> = {}) {
  const port = await freeTcpPort()
  const script = `import { startService } from ${JSON.stringify(START)}; startService({ extend: ${TRAPS} })`
  const args = ['--input-type=module', '-e', script]
  const env = { PORT: String(port), DATABASE_URL: `file:${join(folder, 'x.db')}`, LIVEKIT_URL: NO_LIVEKIT, ...settings }
  return { port, url: `http://127.0.0.1:${port}`, service: node(args, env) }
}

function node(args: string[], env: Record<string, string>): RunningProcess {
  const service = run(process.execPath, args, { cwd: folder, env })
  running.push(service)
  return service
}

async function started() {
  const launched = await launch()
  await ready(launched)
  return launched
}

const ready = ({ url, service }: { url: string; service: RunningProcess }) =>
  until('it is ready', async () => service.isRunning() && (await fetch(`${url}/health/ready`)).ok)

const ended = (service: RunningProcess) => until('it has ended', () => !service.isRunning(), 20)

/** A sign-in that the service has begun to read, and that lacks its last bytes. */
async function halfARequest(port: number) {
  const socket: Socket = connect(port, '127.0.0.1')
  let answer = ''
  socket.on('data', (chunk) => {
    answer += String(chunk)
  })
  socket.on('error', () => {})
  const head = ['POST /auth/guest HTTP/1.1', 'Host: x', 'Content-Type: application/json', 'Content-Length: 14']
  socket.write(`${[...head, 'Expect: 100-continue'].join('\r\n')}\r\n\r\n{"name"`)
  await until('the service reads it', () => answer.includes('100 Continue'))
  return { finish: () => socket.write(':"Ada"}'), answer: () => answer, cut: () => socket.destroy() }
}

const isListening = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })

describe('the service as a process', { timeout: 60_000 }, () => {
  test('refuses to start on a running service’s store, which is unaffected', async () => {
    const first = await started()
    const second = await launch()
    await ended(second.service)
    expect(second.service.exitCode()).toBe(1)
    expect(second.service.log()).toMatch(/x\.db is in use by another service \(process \d+\)\. Stop that service first/)
    expect(second.service.log()).not.toMatch(/\n\s+at /)
    expect((await fetch(`${first.url}/health/ready`)).status).toBe(200)

    await first.service.stop('SIGKILL')
    await started()
  })

  test('serves metrics on METRICS_PORT, there alone and nothing else, until it has stopped', async () => {
    const metricsPort = await freeTcpPort()
    const launched = await launch({ METRICS_PORT: String(metricsPort) })
    await ready(launched)
    const metrics = `http://127.0.0.1:${metricsPort}`
    const answer = await fetch(`${metrics}/metrics`)
    expect(answer.headers.get('Content-Type')).toMatch(/^text\/plain; version=0\.0\.4/)
    expect(await answer.text()).toMatch(/^behalf_http_requests_total\{.*route="\/health\/ready",status="200".*\} \d+$/m)
    expect((await fetch(`${launched.url}/metrics`)).status).toBe(404)
    expect((await fetch(`${metrics}/health`)).status).toBe(404)
    expect((await fetch(`${metrics}/metrics`, { method: 'POST' })).status).toBe(404)
    await launched.service.stop('SIGTERM')
    expect(launched.service.exitCode()).toBe(0)
    await expect(fetch(`${metrics}/metrics`)).rejects.toThrow()
  })

  test('names METRICS_PORT when that is taken', async () => {
    const { port } = await started()
    const { service } = await launch({ METRICS_PORT: String(port), DATABASE_URL: `file:${join(folder, 'y.db')}` })
    await ended(service)
    expect(service.exitCode()).toBe(1)
    expect(service.log()).toContain(`METRICS_PORT=${port} on METRICS_HOST=127.0.0.1 is taken`)
  })

  test('finishes open requests after SIGTERM, checkpoints, and exits with 0', async () => {
    const { port, service } = await started()
    const request = await halfARequest(port)
    const stopped = service.stop('SIGTERM')
    await until('it takes nothing new', async () => !(await isListening(port)))
    request.finish()
    await until('the answer is there', () => request.answer().includes('201 Created'))
    await stopped
    expect(service.exitCode()).toBe(0)
    expect(existsSync(join(folder, 'x.db-wal'))).toBe(false)
  })

  test('exits with 0 on SIGTERM before the store is open: process 1 of a container would else not hear it', async () => {
    const silent = createTcpServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    const connected = once(silent, 'connection')
    try {
      const { service } = await launch({ DATABASE_URL: `postgres://behalf@127.0.0.1:${port}/behalf` })
      const [socket] = await connected
      await service.stop('SIGTERM')
      expect(service.exitCode()).toBe(0)
      socket.destroy()
    } finally {
      silent.close()
    }
  })

  test('shuts down cleanly on SIGTERM during the first reconciliation', async () => {
    let asked = 0
    const silent = createServer(() => asked++).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port: livekitPort } = silent.address() as AddressInfo
    try {
      const { url, service } = await launch({ LIVEKIT_URL: `ws://127.0.0.1:${livekitPort}` })
      await until('it asks LiveKit', () => asked > 0)
      expect((await fetch(`${url}/health/ready`)).status).toBe(503)
      const stopped = service.stop('SIGTERM')
      silent.closeAllConnections()
      await stopped
      expect(service.exitCode()).toBe(0)
      expect(existsSync(join(folder, 'x.db-wal'))).toBe(false)
    } finally {
      silent.closeAllConnections()
      silent.close()
    }
  })

  test.each([
    [
      'a folder in place of the database',
      'folder',
      /^DATABASE_URL: .*folder cannot be used \(EISDIR\): it is a folder/,
    ],
    [
      'a file in place of the database’s folder',
      'text/x.db',
      /^DATABASE_URL: .*x\.db cannot be used \(EEXIST\): a file is where/,
    ],
    [
      'a database that is not one',
      'text',
      /^DATABASE_URL: .*text cannot be used \(SQLITE_NOTADB\): .* restore a backup/,
    ],
  ])('reports %s in one sentence', async (_, path, sentence) => {
    mkdirSync(join(folder, 'folder'))
    writeFileSync(
      join(folder, 'text'),
      'This is not a database, but it is as long as the header of one would be: 100 bytes. '.repeat(2),
    )
    const { service } = await launch({
      DATABASE_URL: `file:${join(folder, path)}`,
      LIVEKIT_API_KEY: 'k',
      LIVEKIT_API_SECRET: 's',
    })
    await ended(service)
    expect(service.exitCode()).toBe(1)
    expect(service.log()).toMatch(sentence)
    expect(service.log().trim().split('\n')).toHaveLength(1)
  })

  test.each([
    ['a port in use', '127.0.0.1', /PORT=\d+ on HOST=127\.0\.0\.1 is taken, .* choose another PORT\.\n$/],
    ['a host that is another machine’s', '203.0.113.7', /HOST=203\.0\.113\.7 is not an address of this machine: use /],
  ])('reports %s in one sentence and exits with 1', async (_, host, sentence) => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    try {
      const { service } = await launch({ HOST: host, PORT: String(port) })
      await ended(service)
      expect(service.exitCode()).toBe(1)
      expect(service.log()).toMatch(sentence)
      expect(service.log()).not.toMatch(/\n\s+at /)
    } finally {
      taken.close()
    }
  })

  test.skipIf(process.platform === 'win32')('restricts a database that others could read to its own user', async () => {
    const files = ['x.db', 'x.db-wal', 'x.db-shm'].map((name) => join(folder, name))
    const first = await started()
    await first.service.stop('SIGKILL')
    for (const file of files) chmodSync(file, 0o644)
    await started()
    for (const file of files) expect(statSync(file).mode & 0o777, file).toBe(0o600)
  })

  test('refuses a second service whose DATABASE_URL differs by white space only', async () => {
    const first = await started()
    const second = await launch({ DATABASE_URL: `file:${join(folder, 'x.db')}\r` })
    await ended(second.service)
    expect(second.service.log()).toContain('x.db is in use by another service')
    expect(first.service.isRunning()).toBe(true)
    expect(readdirSync(folder).sort()).toEqual(['x.db', 'x.db-shm', 'x.db-wal', 'x.db.lock'])
  })

  test('runs the close hook of custom routes last', async () => {
    const extend = `() => () => process.stderr.write('closed\\n')`
    const script = `import { startService } from ${JSON.stringify(START)}; startService({ extend: ${extend} })`
    const port = await freeTcpPort()
    const env = { PORT: String(port), DATABASE_URL: `file:${join(folder, 'x.db')}`, LIVEKIT_URL: NO_LIVEKIT }
    const service = node(['--input-type=module', '-e', script], env)
    await ready({ url: `http://127.0.0.1:${port}`, service })
    expect(service.log()).not.toContain('closed')
    await service.stop('SIGTERM')
    expect(service.exitCode()).toBe(0)
    expect(service.log().trim()).toMatch(/closed$/)
  })

  test('exits at once at the second signal', async () => {
    const { port, service } = await started()
    const request = await halfARequest(port)
    void service.stop('SIGTERM')
    await until('it takes nothing new', async () => !(await isListening(port)))
    expect(service.isRunning()).toBe(true)
    await service.stop('SIGINT')
    expect(service.exitCode()).toBe(1)
    request.cut()
  })

  test.each([
    ['throws-later', 'uncaught exception', 'thrown later'],
    ['rejects-later', 'unhandled rejection', 'rejected later'],
  ])('logs an unexpected error (%s), exits with 1, and can start again', async (route, kind, message) => {
    const { url, service } = await started()
    await fetch(`${url}/${route}`)
    await ended(service)
    expect(service.exitCode()).toBe(1)
    expect(service.log()).toContain(kind)
    expect(service.log()).toContain(message)
    await started()
  })
})

test.each(['server.js', 'cli.js'])('%s refuses an older Node in one sentence', async (file) => {
  const faked = 'Object.defineProperty(process,"versions",{value:{...process.versions,node:"20.18.3"}})'
  const script = fileURLToPath(new URL(`../dist/${file}`, import.meta.url))
  const service = node(['--import', `data:text/javascript,${faked}`, script], {})
  await ended(service)
  expect(service.exitCode()).toBe(1)
  expect(service.log()).toBe('Behalf needs Node 20.19, 22.12 or newer; this is 20.18.3.\n')
})

test('the programs of the demo end with it when its output is cut', async () => {
  const processes = new URL('../examples/demo/processes.ts', import.meta.url)
  const child = `console.log('pid ' + process.pid); setInterval(() => {}, 1000)`
  const script = `import { program, say } from ${JSON.stringify(processes)}
    program('child', process.execPath, ['-e', ${JSON.stringify(child)}], { cwd: '.', env: process.env })
    setInterval(() => say('demo', 'still here'), 5)`
  const args = ['--import', 'tsx', '--input-type=module', '-e', script]
  const demo = spawn(process.execPath, args, { cwd: REPOSITORY, stdio: ['ignore', 'pipe', 'ignore'] })
  let pid = 0
  try {
    let printed = ''
    demo.stdout.on('data', (chunk) => {
      printed += String(chunk)
    })
    pid = await until('its child runs', () => Number(/pid (\d+)\n/.exec(printed)?.[1]) || undefined)
    expect(isAlive(pid)).toBe(true)
    demo.stdout.destroy()
    await until('its child has ended', () => !isAlive(pid))
  } finally {
    demo.kill('SIGKILL')
    if (pid > 0 && isAlive(pid)) process.kill(pid, 'SIGKILL')
  }
})

const REPOSITORY = fileURLToPath(new URL('..', import.meta.url))

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('the package scripts need no POSIX shell', () => {
  const { scripts } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { scripts: object }
  for (const [name, script] of Object.entries(scripts)) {
    expect(script, name).not.toMatch(/^(exec|env) |^\w+=|'[^"]*$|[$;`]|\brm |\bcp /)
  }
})

describe('the service without settings', { timeout: 60_000 }, () => {
  // LIVEKIT_URL stays at its default, and something may listen there: nothing here depends on what that answers.
  test('starts in development with a store in ./data, a warning, and a first agent printed once', async () => {
    const port = await freeTcpPort()
    const url = `http://127.0.0.1:${port}`
    const first = node([SERVER], { PORT: String(port) })
    await ready({ url, service: first })
    expect(existsSync(join(folder, 'data/behalf.db'))).toBe(true)
    expect(first.log()).toMatch(/WARNING.*devkey/)
    expect(first.log()).toMatch(/BEHALF_AGENT_ID=dev-agent\nBEHALF_AGENT_SECRET=\S{40}/)
    expect(
      (await fetch(`${url}/auth/guest`, { method: 'POST', headers: { 'Content-Type': 'application/json' } })).status,
    ).toBe(201)
    await first.stop('SIGTERM')
    expect(first.exitCode()).toBe(0)

    const second = node([SERVER], { PORT: String(port) })
    await ready({ url, service: second })
    expect(second.log()).not.toContain('AGENT_SECRET')
  })

  test('does not start in production, and lists all missing settings', async () => {
    const service = node([SERVER], { NODE_ENV: 'production', PORT: String(await freeTcpPort()) })
    await ended(service)
    expect(service.exitCode()).toBe(1)
    for (const name of ['LIVEKIT_URL', 'LIVEKIT_API_KEY', 'LIVEKIT_API_SECRET', 'PUBLIC_URL']) {
      expect(service.log()).toContain(name)
    }
    expect(readdirSync(folder)).toEqual([])
  })
})
