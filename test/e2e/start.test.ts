import { access, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { REPOSITORY } from './binaries.ts'
import { freeTcpPort, type RunningProcess, run, until } from './processes.ts'

// The built service alone: no settings but the port, no LiveKit.
describe('the service', () => {
  let folder: string
  let started: RunningProcess | undefined
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'behalf-start-'))
  })
  afterEach(async () => {
    await started?.stop('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  })

  async function serve(port: number): Promise<RunningProcess> {
    const server = run(process.execPath, [join(REPOSITORY, 'dist/server.js')], {
      cwd: folder,
      env: { PORT: String(port) },
    })
    started = server
    await until(
      'it is ready',
      async () => server.isRunning() && (await fetch(`http://127.0.0.1:${port}/health/ready`)).ok,
    )
    return server
  }

  test('needs no settings in development: its store in ./data, a warning, and a first agent shown once', async () => {
    const port = await freeTcpPort()
    const first = await serve(port)
    await access(join(folder, 'data/behalf.db'))
    expect(first.log()).toMatch(/WARNING.*devkey/)
    expect(first.log()).toMatch(/AGENT_SECRET=\S{40}/)
    // Without LiveKit it signs users in; only /health says that something is missing.
    const guest = await fetch(`http://127.0.0.1:${port}/auth/guest`, { method: 'POST' })
    expect(guest.status).toBe(201)
    expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(503)
    await first.stop('SIGTERM')
    expect(first.exitCode()).toBe(0)

    const second = await serve(port)
    expect(second.log()).not.toContain('AGENT_SECRET')
  })

  test('does not start in production without its settings, and names them all at once', async () => {
    const server = run(process.execPath, [join(REPOSITORY, 'dist/server.js')], {
      cwd: folder,
      env: { NODE_ENV: 'production', PORT: String(await freeTcpPort()) },
    })
    started = server
    await until('it has ended', () => !server.isRunning())
    expect(server.exitCode()).toBe(1)
    for (const name of ['LIVEKIT_URL', 'LIVEKIT_API_KEY', 'LIVEKIT_API_SECRET', 'PUBLIC_URL']) {
      expect(server.log()).toContain(name)
    }
    expect(await readdir(folder)).toEqual([])
  })
})
