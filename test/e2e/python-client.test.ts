import { beforeAll, expect, test } from 'vitest'
import { agentPython, PYTHON_PACKAGE, REPOSITORY } from './binaries.ts'
import { output, run, until } from './processes.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

const python = agentPython()
const pytest = ['-B', '-m', 'pytest', '-q']
// The settings only have to be there: nothing is called while pytest collects.
const NOWHERE = { BEHALF_URL: 'http://127.0.0.1:0', LIVEKIT_URL: '' }
const collected = python
  ? await output(python, [...pytest, '--collect-only'], { cwd: PYTHON_PACKAGE, env: NOWHERE })
  : ''
const ids = collected.split('\n').filter((line) => line.includes('::'))

// Each test of packages/python is one here, so that it is counted and fails under its own name.
describeWithLiveKit('packages/python', () => {
  const stack = useStack({
    program: ['--import', import.meta.resolve('tsx'), `${REPOSITORY}examples/your-route/server.ts`],
    env: { ORDERS_FILE: ':memory:' },
  })
  let report = ''

  beforeAll(async () => {
    if (!python) return
    const { api, livekit } = stack()
    const { id, secret } = await api.agent('waiter')
    const env = { BEHALF_URL: api.url, BEHALF_AGENT_ID: id, BEHALF_AGENT_SECRET: secret, LIVEKIT_URL: livekit.url }
    const tests = run(python, [...pytest, '-rA'], { cwd: PYTHON_PACKAGE, env })
    // What has not passed by then fails below, with the whole report.
    await until('pytest is done', () => !tests.isRunning(), 120).catch(() => tests.stop('SIGKILL'))
    report = tests.log()
  }, 150_000)

  test.skipIf(!python)('are all collected', () => {
    expect(ids.length).toBeGreaterThan(40)
  })

  test.skipIf(!python).each(ids)('%s', (id) => {
    if (!report.split('\n').includes(`PASSED ${id}`)) throw new Error(`not passed:\n${report}`)
  })
})
