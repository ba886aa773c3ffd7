import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { SHUTDOWN_TIMING } from '../../src/shutdown.ts'
import { REPOSITORY } from './binaries.ts'
import { build, type Container, type Image, start } from './container.ts'
import { NO_LIVEKIT, output, until } from './processes.ts'

/** Namespaces need root, as on CI; without them this suite cannot stand in for an engine. */
const [command = '', ...args] = 'unshare --fork --pid --mount --net ip link set lo up'.split(' ')
const canIsolate = await output(command, args).then(
  () => true,
  () => false,
)
if (!canIsolate) {
  console.log('skipped: no container (namespaces need Linux, root, unshare and ip)')
  if (process.env.BEHALF_REQUIRE_ALL === '1') throw new Error('Nothing may be skipped here: no namespaces.')
}

const { dependencies } = JSON.parse(await readFile(join(REPOSITORY, 'package.json'), 'utf8'))
const lock = await readFile(join(REPOSITORY, 'package-lock.json'), 'utf8')
const { packages } = JSON.parse(lock) as { packages: Record<string, { dev?: boolean }> }
const SECRET = '0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978'
const HEALTH = (path: string) =>
  `fetch('http://127.0.0.1:' + process.env.PORT + '${path}').then(async (r) => console.log(r.status, await r.text()))`

// No engine runs the image here: its steps are run in a folder, which becomes the root of a process in namespaces of its own.
describe.skipIf(!canIsolate)('the container image', () => {
  let folder: string
  let image: Image
  let container: Container | undefined
  const env = {
    PUBLIC_URL: 'https://api.example.com',
    LIVEKIT_URL: NO_LIVEKIT,
    LIVEKIT_API_KEY: 'behalf',
    LIVEKIT_API_SECRET_FILE: '/run/secrets/livekit',
  }
  const secret = async (name: string, content: string, mode = 0o400) => {
    const path = join(image.root, 'run/secrets', name)
    await writeFile(path, content)
    await chown(path, 1000, 1000)
    await chmod(path, mode)
  }
  const started = async (settings: Record<string, string> = env) => {
    container = await start(image, settings)
    await until('it is healthy', () => container?.exec(...image.healthCheck).then(() => true))
    return container
  }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'behalf-image-'))
    await chmod(folder, 0o755)
    image = await build(folder)
    await mkdir(join(image.root, 'run/secrets'), { recursive: true })
    await secret('livekit', `${SECRET}\n`)
    // Alone about 25 seconds, of which npm takes most.
  }, 240_000)
  afterEach(async () => {
    await container?.process.stop('SIGKILL')
    container = undefined
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('contains what runs, and no development dependency, test or source', async () => {
    const app = join(image.root, 'app')
    expect((await readdir(app)).sort()).toEqual(['data', 'dist', 'drizzle', 'node_modules', 'package.json'])
    const installed = (path: string) => existsSync(join(app, path, 'package.json'))
    expect(Object.keys(dependencies).filter((name) => !installed(join('node_modules', name)))).toEqual([])
    const development = Object.keys(packages).filter((path) => packages[path]?.dev)
    expect(development.length).toBeGreaterThan(80)
    expect(development.filter(installed)).toEqual([])
    expect((await readdir(join(app, 'dist'), { recursive: true })).filter((file) => file.includes('test'))).toEqual([])
  })

  test('belongs to root but for its data, so that the service cannot change itself', async () => {
    const owned = await output('find', [join(image.root, 'app'), join(image.root, 'data'), '-user', '1000'])
    expect(owned.trim()).toBe(join(image.root, 'data'))
    const writable = await output('find', [join(image.root, 'app'), '!', '-type', 'l', '-perm', '/0022'])
    expect(writable).toBe('')
  })

  test('runs without root and capabilities on a read-only file system, healthy by its own check', async () => {
    const { exec } = await started()
    const look = `const w = (f) => { try { fs.writeFileSync(f, ''); return 'written' } catch (e) { return e.code } }
      console.log(JSON.stringify([process.getuid(), w('/app/x'), w('/x'), w('/tmp/x'), w('/data/x')]))`
    expect(JSON.parse(await exec('node', '-e', look))).toEqual([1000, 'EROFS', 'EROFS', 'written', 'written'])
    await until('it is ready', async () => (await exec('node', '-e', HEALTH('/health/ready'))).startsWith('200'))
    expect(await readdir(join(image.root, 'data'))).toContain('behalf.db')
  })

  test('has the commands beside the service, on the same database', async () => {
    const { exec } = await started()
    expect(JSON.parse(await exec('node', 'dist/cli.js', 'agent', 'create', 'tutor', '--json'))).toMatchObject({
      id: 'tutor',
    })
    expect(await exec('node', 'dist/cli.js', 'agent', 'list')).toContain('tutor')
  })

  test('is unhealthy while the service does not answer', async () => {
    const { exec } = await started({ ...env, PORT: '8009' })
    await expect(exec('env', 'PORT=8010', ...image.healthCheck)).rejects.toThrow('ended with 1')
  })

  test('ends with 0 after SIGTERM to process 1, within its limits', async () => {
    const { exec, stop, process: running } = await started()
    expect((await exec('node', '-e', HEALTH('/health/live'))).startsWith('200')).toBe(true)
    const signalled = Date.now()
    expect(await stop()).toBe(0)
    expect(Date.now() - signalled).toBeLessThan(SHUTDOWN_TIMING.hardExit)
    expect(running.log()).toContain('SIGTERM: stopping')
  })

  test('takes its database from a file, too', async () => {
    await secret('database-url', 'file:/data/other.db\n')
    await started({ ...env, DATABASE_URL_FILE: '/run/secrets/database-url' })
    expect(await readdir(join(image.root, 'data'))).toContain('other.db')
  })

  test('does not start without a secret that it may read', async () => {
    await secret('unreadable', SECRET, 0)
    const { process: running } = await start(image, { ...env, LIVEKIT_API_SECRET_FILE: '/run/secrets/unreadable' })
    await until('it has ended', () => !running.isRunning())
    expect(running.exitCode()).toBe(1)
    expect(running.log()).toContain('LIVEKIT_API_SECRET_FILE: /run/secrets/unreadable cannot be read (EACCES)')
  })
})
