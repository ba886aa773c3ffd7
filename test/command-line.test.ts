import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { run as runAgent } from '../src/cli/agent.ts'
import { run as runAudit } from '../src/cli/audit.ts'
import { createCommand, type Environment, type Print } from '../src/cli/command-line.ts'
import { run as runKeys } from '../src/cli/keys.ts'
import { run as runStore } from '../src/cli/store.ts'
import { run as runToken } from '../src/cli/token.ts'
import { run as runUser } from '../src/cli/user.ts'
import { openStore } from '../src/store/store.ts'
import { outcomeOf, type Run } from './outcome.ts'

const TOOLS: Array<[tool: string, run: Run, command: string[], more: string[]]> = [
  ['agent', runAgent, ['list'], ['create', 'disable', 'enable', 'rekey']],
  ['audit', runAudit, ['agent', 'tutor'], ['session']],
  ['keys', runKeys, ['list'], ['rotate', 'remove']],
  ['store', runStore, ['check'], ['backup', 'restore']],
  ['token', runToken, ['inspect', '-'], []],
  ['user', runUser, ['sign-out', 'ada@example.com'], []],
]

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'behalf-commands-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** A command in this process, with what it printed. */
async function outcome(run: Run, argv: string[], env: Environment = {}) {
  const { code, out, err } = await outcomeOf(run, argv, env, 'x')
  return { code, out: out.join('\n'), err }
}

test('a command escapes terminal control characters in results and errors', async () => {
  const hostile = 'a\u001b[2J\u007f\u009b\u202e\u2028\u200b'
  const execute = async (_: string, __: Environment, out: Print) => {
    out(`one\n${hostile}`)
    throw new Error(hostile)
  }
  const tool = createCommand({ help: '', options: {}, parse: () => 'go', execute })
  const shown = 'a\\u001b[2J\\u007f\\u009b\\u202e\\u2028\\u200b'
  expect(await outcome(tool, [])).toEqual({ code: 1, out: `one\n${shown}`, err: [shown.replace('\\u2028', ' ')] })
})

describe.each(TOOLS)('npm run %s', (tool, run, command, more) => {
  test('prints its help and its exit codes', async () => {
    const { code, out, err } = await outcome(run, ['--help'])
    expect({ code, err }).toEqual({ code: 0, err: [] })
    for (const verb of [command[0], ...more]) expect(out).toContain(`npm run ${tool} -- ${verb}`)
    expect(out).toMatch(/Exit codes: 0 .*; 1 .*; 2 /)
  })

  test('exits with 2 and one line when the settings are invalid', async () => {
    const line = expect.stringMatching(/^DATABASE_URL: must be file:<path> \(SQLite\), .*$/)
    expect(await outcome(run, command, { DATABASE_URL: 'x' })).toEqual({ code: 2, out: '', err: [line] })
  })

  test.each([[[]], [['--nope']], [['nothing', 'of', 'ours']]])('exits with 2 and one line for %j', async (argv) => {
    expect(await outcome(run, argv)).toEqual({ code: 2, out: '', err: [expect.stringMatching(/^.+$/)] })
  })
})

test('npm run agent -- disable says that it was the default agent', async () => {
  const env = { DATABASE_URL: `file:${join(folder, 'x.db')}`, DEFAULT_AGENT: 'tutor' }
  for (const name of ['tutor', 'coach']) await outcome(runAgent, ['create', name], env)
  expect((await outcome(runAgent, ['disable', 'coach'], env)).out).toBe('coach is disabled.')
  expect((await outcome(runAgent, ['disable', 'tutor'], env)).out).toMatch(
    /^tutor is disabled\.\nIt is DEFAULT_AGENT: /,
  )
})

test.each(TOOLS.filter(([tool]) => tool !== 'token' && tool !== 'user'))(
  'npm run %s runs in production without secrets',
  async (_, run, command) => {
    const env = { NODE_ENV: 'production', DATABASE_URL: `file:${join(folder, 'x.db')}` }
    await (await openStore(env.DATABASE_URL)).close()
    expect(await outcome(run, command, env)).toEqual({ code: 0, out: expect.stringMatching(/./), err: [] })
  },
)
