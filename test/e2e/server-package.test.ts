import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { REPOSITORY } from './binaries.ts'
import { freeTcpPort, NO_LIVEKIT, output, run, until } from './processes.ts'

const { name, dependencies } = JSON.parse(await readFile(join(REPOSITORY, 'package.json'), 'utf8'))
const TSC = join(REPOSITORY, 'node_modules/typescript/bin/tsc')

/** What a team writes: a route of its own, against the package alone. */
const PROGRAM = `import { Pair, startService, z } from '${name}'

startService({
  extend({ app, agentRoute }) {
    const orders: string[] = []
    const placeOrder = agentRoute(
      {
        method: 'post',
        path: '/agent/orders',
        scope: 'orders:write',
        input: Pair.extend({ item: z.string() }),
        answer: z.object({ orderId: z.number() }),
        status: 201,
      },
      ({ session, input }) => ({ orderId: orders.push(session.userId + input.item) }),
    )
    app.openapi(...placeOrder)
  },
})
`

// As a team gets it: the tarball in a folder of its own. Its dependencies are linked, since a native one cannot be installed
// without a registry.
describe('the packed server', () => {
  let folder: string
  let installed: string
  const env = { AGENT_SCOPES: 'orders:write', LIVEKIT_URL: NO_LIVEKIT }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'behalf-server-package-'))
    installed = join(folder, 'node_modules', name)
    await mkdir(installed, { recursive: true })
    const tarball = (await output('npm', ['pack', REPOSITORY, '--ignore-scripts', '--silent'], { cwd: folder })).trim()
    await output('tar', ['-xzf', join(folder, tarball), '-C', installed, '--strip-components=1'])
    for (const dependency of [...Object.keys(dependencies), '@types/node', 'undici-types']) {
      const path = join(folder, 'node_modules', dependency)
      await mkdir(join(path, '..'), { recursive: true })
      await symlink(join(REPOSITORY, 'node_modules', dependency), path)
    }
    await writeFile(join(folder, 'package.json'), '{ "private": true, "type": "module" }')
    await writeFile(join(folder, 'program.ts'), PROGRAM)
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('contains only what runs', async () => {
    expect((await readdir(installed)).sort()).toEqual(
      ['.env.example', 'LICENSE', 'README.md', 'dist', 'drizzle', 'livekit.yaml', 'package.json'].sort(),
    )
    const files = await readdir(installed, { recursive: true })
    expect(files.filter((file) => /\.map$|\.test\./.test(file))).toEqual([])
  })

  test('accepts a custom route, with types', async () => {
    const options = ['--strict', '--skipLibCheck', '--target', 'es2023', '--module', 'nodenext', '--types', 'node']
    await output(process.execPath, [TSC, 'program.ts', '--outDir', 'out', ...options], { cwd: folder })
    const port = await freeTcpPort()
    const service = run(process.execPath, ['out/program.js'], { cwd: folder, env: { ...env, PORT: String(port) } })
    try {
      const url = `http://127.0.0.1:${port}`
      await until('it is ready', async () => service.isRunning() && (await fetch(`${url}/health/ready`)).ok)
      expect((await fetch(`${url}/agent/orders`, { method: 'POST' })).status).toBe(401)
      const { paths } = (await (await fetch(`${url}/openapi.json`)).json()) as { paths: object }
      expect(Object.keys(paths)).toContain('/agent/orders')
      expect((await fetch(`${url}/docs/page.js`)).status).toBe(200)
    } finally {
      await service.stop('SIGKILL')
    }
  })

  test('installs the command line', async () => {
    const { bin } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'))
    const args = [join(installed, bin), 'agent', 'create', 'waiter', '--scope', 'orders:write', '--json']
    const created = JSON.parse(await output(process.execPath, args, { cwd: folder, env }))
    expect(created).toMatchObject({ id: 'waiter', scopes: ['orders:write'] })
  })
})
