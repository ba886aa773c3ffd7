import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { useFakeStack } from '../faults/stack.ts'
import { agentPython } from './binaries.ts'
import { output } from './processes.ts'
import { buildWheel, pip } from './wheel.ts'

/** What a team writes. */
const PROGRAM = `import asyncio
import json
import sys

from behalf import AgentClient, Pair, ProblemError

url, id, secret, user_id, session_id = sys.argv[1:]


async def main() -> None:
    async with AgentClient(url, id, secret, not_live_patience=0) as behalf:
        user = behalf.session(Pair(user_id, session_id))
        stored = await user.progress({"step": 1})
        own = await user.call("/agent/context", method="GET")
        context = await user.context()
        ended = await user.end(reason="done")
        refused = ""
        try:
            await user.progress({"step": 2})
        except ProblemError as problem:
            refused = problem.code
        print(json.dumps([stored["seq"] == own["cursor"], context["user"]["guest"], ended["status"], refused]))


asyncio.run(main())
`
/** Each line of it is wrong, which shows that the types are known. */
const WRONG = `from behalf import AgentClient, Pair, ProblemError, Session


async def main(behalf: AgentClient, problem: ProblemError, session: Session) -> None:
    await behalf.session(Pair("user_1", "sess_1")).progress("step 1")
    print(problem.code == "session_over", session["started"])
`

const python = agentPython() ?? ''

// As a team gets it: the wheel, in an empty environment outside the repository, without a registry.
describe.skipIf(!python)('the wheel of packages/python', () => {
  const stack = useFakeStack()
  let folder: string
  let installed: string
  let wheel: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'behalf-wheel-'))
    wheel = await buildWheel(python, folder)
    await output(python, ['-m', 'venv', '--without-pip', join(folder, 'venv')])
    installed = join(folder, 'venv/bin/python')
    const wheels = join(python, '../../wheels')
    await pip(
      python,
      '--python',
      installed,
      'install',
      '--quiet',
      '--ignore-installed',
      '--no-index',
      '--find-links',
      wheels,
      wheel,
    )
    await writeFile(join(folder, 'program.py'), PROGRAM)
    await writeFile(join(folder, 'wrong.py'), WRONG)
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('contains only what runs, and depends on one package', async () => {
    const [version = ''] = await readdir(join(folder, 'venv/lib'))
    const site = join(folder, 'venv/lib', version, 'site-packages')
    const files = (await readdir(join(site, 'behalf'))).filter((file) => file !== '__pycache__')
    expect(files.sort()).toEqual(
      ['__init__.py', 'client.py', 'job.py', 'problem.py', 'py.typed', 'token.py', 'wire.py'].sort(),
    )
    const metadata = await readFile(join(site, 'behalf_client-0.1.0.dist-info/METADATA'), 'utf8')
    expect(metadata.match(/^Requires-Dist: .*$/gm)).toEqual(['Requires-Dist: aiohttp<4,>=3.10'])
  })

  test('works against the service', async () => {
    const { api, join: joinRoom } = stack()
    const agent = await api.agent('tutor')
    const user = await api.guest()
    const ticket = await api.mint(user)
    await joinRoom(ticket.token)
    const args = ['program.py', api.url, agent.id, agent.secret, user.id, ticket.session_id]
    const printed = await output(installed, args, { cwd: folder })
    expect(JSON.parse(printed)).toEqual([true, true, 'ended', 'session_ended'])
  })

  test('includes its types', async () => {
    const mypy = (file: string) =>
      output(python, ['-m', 'mypy', '--strict', '--python-executable', installed, '--cache-dir', '.mypy', file], {
        cwd: folder,
      })
    await mypy('program.py')
    const found = await mypy('wrong.py').catch(String)
    expect(found).toContain('"progress" of "UserSession" has incompatible type "str"')
    expect(found).toContain('Non-overlapping equality check')
    expect(found).toContain('TypedDict "Session" has no key "started"')
  })
})
