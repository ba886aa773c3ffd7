import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { REPOSITORY } from './binaries.ts'
import { output } from './processes.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('docs/walk-through.md', () => {
  const stack = useStack()

  test('the walk-through is accepted while the user is in the room and refused before, after and at the end', async () => {
    const { livekit, service } = stack()
    const page = await readFile(join(REPOSITORY, 'docs/walk-through.md'), 'utf8')
    const parts = [...page.matchAll(/<!-- walk-through: part \d -->\n```sh\n([\s\S]*?)```/g)].map(([, part]) => part)
    expect(parts).toHaveLength(2)
    const script = parts.join('').replace('API=http://localhost:8008', `API=${service.url}`)
    const env = { DATABASE_URL: service.databaseUrl, LIVEKIT_URL: livekit.url }
    const printed = await output('bash', ['-c', script], { cwd: REPOSITORY, env })
    const answers = printed.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
    expect(answers.map(({ code, seq, status, name }) => code ?? seq ?? status ?? name)).toEqual([
      'Ada',
      undefined, // the join token
      'session_not_live',
      'live',
      2,
      undefined, // the events
      'session_not_live',
      'ended',
      'session_ended',
    ])
  })
})
