import { expect, test } from 'vitest'
import { run } from '../src/cli/user.ts'
import { newDatabase } from './database.ts'
import { outcomeOf } from './outcome.ts'
import { ENDED, refusal, scene } from './scene.ts'
import { post } from './support.ts'

const ADA = { email: 'ada@example.com', password: 'correct horse' }

/** A running service with Ada in a call, and the command beside it. */
async function setUp() {
  const databaseUrl = await newDatabase({ lasts: true })
  const s = await scene({ databaseUrl })
  const agent = await s.newAgent()
  const present = await s.present()
  const cli = async (...argv: string[]) => {
    const { code, out, err } = await outcomeOf(run, argv, { DATABASE_URL: databaseUrl })
    return { code, out: out.join(), err: err.join() }
  }
  return { s, ...present, cli, report: () => s.progress(agent.bearer, present.pair), id: present.user.id }
}

test('ends a user’s sign-ins and sessions in the running service, which then removes them from LiveKit', async () => {
  const { s, user, id, room, cli, report } = await setUp()
  expect((await report()).status).toBe(201)
  expect(await cli('sign-out', id)).toEqual({
    code: 0,
    out: `${id} is signed out. Sign-ins ended: 1. Sessions ended: 1.`,
    err: '',
  })
  expect(await refusal(s.get('/auth/me', user.bearer))).toEqual({ status: 401, code: 'invalid_token' })
  expect((await post(s.app, '/auth/refresh', { refresh_token: user.refreshToken })).status).toBe(401)
  expect(await refusal(report())).toEqual(ENDED)
  expect(s.sfu.rooms.has(room)).toBe(true)
  expect(await s.reconcile()).toBe(true)
  expect(s.sfu.rooms.has(room)).toBe(false)
})

test('finds a user by e-mail, however it is written, and says when there is nothing to end', async () => {
  const { s, user, id, cli } = await setUp()
  expect((await post(s.app, '/auth/register', ADA, user.bearer)).status).toBe(201)
  expect((await cli('sign-out', ' ADA@example.com')).out).toMatch(/Sign-ins ended: 1\. Sessions ended: 1\.$/)
  expect((await cli('sign-out', id)).out).toMatch(/Sign-ins ended: 0\. Sessions ended: 0\.$/)
  expect((await post(s.app, '/auth/login', ADA)).status).toBe(200)
})

test.each([
  [['sign-out', 'nobody@example.com'], 1, 'No user has this id or e-mail.'],
  [['sign-out'], 2, 'sign-out takes one id or e-mail; --help shows how.'],
  [['sign-out', 'a', 'b'], 2, 'sign-out takes one id or e-mail; --help shows how.'],
  [['delete', 'a'], 2, 'The command is sign-out; --help shows how.'],
])('refuses %j', async (argv, code, err) => {
  const { cli } = await setUp()
  expect(await cli(...argv)).toEqual({ code, out: '', err })
})
