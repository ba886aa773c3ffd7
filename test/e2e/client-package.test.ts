import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { useFakeStack } from '../faults/stack.ts'
import { REPOSITORY } from './binaries.ts'
import { output } from './processes.ts'

const { name } = JSON.parse(await readFile(join(REPOSITORY, 'packages/client/package.json'), 'utf8'))
const TSC = join(REPOSITORY, 'node_modules/typescript/bin/tsc')

/** What a team writes: both clients, and a call of a route of its own. */
const PROGRAM = `import { agentClient, type Pair, ProblemError, type Session, userClient } from '${name}'

const [url = '', id = '', secret = '', userId = '', sessionId = ''] = process.argv.slice(2)
const pair: Pair = { userId, sessionId }

const user = userClient({ url })
const { id: guestId } = await user.guest({ name: 'Ada' })
const joinToken = await user.joinToken()
const session: Session = await user.sessions.get(String(joinToken.session_id))

const agent = agentClient({ url, id, secret, notLivePatienceMs: 0 })
const { seq } = await agent.session(pair).progress({ step: 1 })
const own = await agent.request<{ cursor: number }>('/agent/context', pair, { method: 'GET' })
const refused = await agent.context({ userId: guestId, sessionId: session.id }).catch((error: unknown) => error)

console.log(JSON.stringify({
  status: session.status,
  isCounted: own.cursor === seq,
  refused: refused instanceof ProblemError && refused.code,
}))
`

// As a team gets it: in an empty folder, from the tarballs alone, without a registry.
describe('the packed client', () => {
  const stack = useFakeStack()
  let folder: string
  const npm = (...args: string[]) => output('npm', args, { cwd: folder })

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'behalf-package-'))
    for (const path of ['packages/client', 'node_modules/eventsource-parser']) {
      const built = path.startsWith('packages/') ? [] : ['--ignore-scripts']
      await npm('pack', join(REPOSITORY, path), ...built)
    }
    const tarballs = (await readdir(folder)).map((file) => `./${file}`)
    await writeFile(join(folder, 'package.json'), '{ "private": true, "type": "module" }')
    await npm('install', '--offline', '--no-audit', '--no-fund', ...tarballs)
    await writeFile(join(folder, 'program.ts'), PROGRAM)
    await writeFile(join(folder, 'node.d.ts'), 'declare const process: { argv: string[] }')
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('has one dependency and no native code', async () => {
    const packages: { name: string }[] = JSON.parse(await npm('query', ':root *'))
    expect(packages.map((installed) => installed.name).sort()).toEqual([name, 'eventsource-parser'].sort())
    const files = await readdir(join(folder, 'node_modules'), { recursive: true })
    expect(files.filter((file) => /\.node$|binding\.gyp$/.test(file))).toEqual([])
    expect(files.filter((file) => file.startsWith(`${name}/src`))).toEqual([])
  })

  test.each(['nodenext', 'bundler'])('includes its types (%s), and works against the service', async (resolution) => {
    const emit = ['--outDir', `out-${resolution}`, '--module', resolution === 'bundler' ? 'esnext' : resolution]
    const strict = [
      '--strict',
      '--exactOptionalPropertyTypes',
      '--target',
      'es2022',
      '--lib',
      'es2023,dom,dom.iterable',
    ]
    const args = [TSC, 'program.ts', 'node.d.ts', ...strict, ...emit, '--moduleResolution', resolution, '--types', '']
    await output(process.execPath, args, { cwd: folder })

    const { api, join: joinRoom } = stack()
    const agent = await api.agent(`tutor-${resolution}`)
    const user = await api.guest()
    const ticket = await api.mint(user)
    await joinRoom(ticket.token)
    const printed = await output(
      process.execPath,
      [join(folder, `out-${resolution}/program.js`), api.url, agent.id, agent.secret, user.id, ticket.session_id],
      { cwd: folder },
    )
    expect(JSON.parse(printed)).toEqual({ status: 'pending', isCounted: true, refused: 'session_not_live' })
  })

  test('can be bundled for a browser', async () => {
    const { metafile, outputFiles } = await build({
      stdin: { contents: `export { userClient } from '${name}'`, resolveDir: folder },
      bundle: true,
      format: 'esm',
      platform: 'browser',
      minify: true,
      metafile: true,
      write: false,
    })
    expect(Object.keys(metafile.inputs).filter((path) => !/<stdin>|node_modules/.test(path))).toEqual([])
    expect(outputFiles[0]?.contents.length).toBeLessThan(16 * 1024)
  })
})
