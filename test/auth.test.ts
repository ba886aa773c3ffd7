import { hash } from '@node-rs/argon2'
import { describe, expect, test } from 'vitest'
import { createPasswords } from '../src/auth/passwords.ts'
import { MeResponse, SignedInResponse } from '../src/auth/schemas.ts'
import { Problem } from '../src/http/problem.ts'
import { makeApp, post, type TestApp } from './support.ts'

const JSON_TYPE = { 'Content-Type': 'application/json' }
const ADA = { email: 'ada@example.com', password: 'correct horse', name: 'Ada' }
const SIGN_IN = { email: ADA.email, password: ADA.password }

const signedIn = async (answer: Response | Promise<Response>) => SignedInResponse.parse(await (await answer).json())
const codeOf = async (answer: Response | Promise<Response>) => Problem.parse(await (await answer).json()).code
const me = ({ app }: TestApp, bearer?: string) =>
  app.request('/auth/me', { headers: bearer ? { Authorization: `Bearer ${bearer}` } : {} })

describe('register', () => {
  test('creates an account and signs in, with Cache-Control: no-store (A12)', async () => {
    const t = await makeApp()
    const answer = await post(t.app, '/auth/register', ADA)
    expect(answer.status).toBe(201)
    expect(answer.headers.get('Cache-Control')).toBe('no-store')
    const body = await signedIn(answer)
    expect(body).toMatchObject({
      user: { email: 'ada@example.com', name: 'Ada' },
      token_type: 'Bearer',
      expires_in: 900,
    })
    expect(body.user.id).toMatch(/^user_[0-9a-f]{44}$/)
    const self = await me(t, body.access_token)
    expect(self.headers.get('Cache-Control')).toBe('no-store')
    expect(MeResponse.parse(await self.json())).toEqual({ ...body.user, guest: false })
  })

  test('stores the password as argon2id only', async () => {
    const t = await makeApp()
    const { user } = await signedIn(post(t.app, '/auth/register', ADA))
    const stored = await t.store.users.findUser(user.id)
    expect(stored?.passwordHash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
  })

  test('registers an e-mail address once, in any case', async () => {
    const t = await makeApp()
    await post(t.app, '/auth/register', ADA)
    const again = await post(t.app, '/auth/register', { ...ADA, email: ' ADA@Example.com ' })
    expect(again.status).toBe(409)
    expect(await codeOf(again)).toBe('email_taken')
  })

  test('lets one of two simultaneous registrations win', async () => {
    const t = await makeApp()
    const answers = await Promise.all([post(t.app, '/auth/register', ADA), post(t.app, '/auth/register', ADA)])
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409])
  })

  test.each([
    ['no e-mail', { password: 'correct horse' }, 'email'],
    ['a bad e-mail', { ...ADA, email: 'ada' }, 'email'],
    ['a long e-mail', { ...ADA, email: `${'a'.repeat(243)}@example.com` }, 'email'],
    ['a letter that only lower-casing makes ASCII', { ...ADA, email: '\u212A@example.com' }, 'email'],
    ['a short password', { ...ADA, password: '1234567' }, 'password'],
    ['a password of more than 1024 bytes', { ...ADA, password: 'é'.repeat(513) }, 'password'],
    ['an empty name', { ...ADA, name: ' ' }, 'name'],
    ['a name with a bidirectional override', { ...ADA, name: 'A\u202eda' }, 'name'],
    ['a name that nobody sees', { ...ADA, name: '\u200d' }, 'name'],
    ['a name with a control character', { ...ADA, name: 'A\u001b[31mda' }, 'name'],
    ['a long name', { ...ADA, name: 'n'.repeat(129) }, 'name'],
  ])('refuses %s and names the field', async (_, body, field) => {
    const { app } = await makeApp()
    const answer = await post(app, '/auth/register', body)
    expect(answer.status).toBe(422)
    const problem = Problem.parse(await answer.json())
    expect(problem.code).toBe('validation_failed')
    expect(problem.errors?.map((e) => e.field)).toContain(field)
  })

  test('accepts a password of 1024 bytes and uses all of it (A44)', async () => {
    const { app } = await makeApp()
    const password = `${'é'.repeat(511)}ab`
    expect((await post(app, '/auth/register', { ...ADA, password })).status).toBe(201)
    expect((await post(app, '/auth/login', { ...SIGN_IN, password })).status).toBe(200)
    expect((await post(app, '/auth/login', { ...SIGN_IN, password: `${'é'.repeat(511)}ac` })).status).toBe(401)
  })

  test('refuses the 3,000 most common passwords and accepts others (A44)', async () => {
    const { app } = await makeApp()
    for (const password of ['password', '12345678', 'Password1', 'QWERTYUIOP', 'usmc0311', 'monique1']) {
      const answer = await post(app, '/auth/register', { ...ADA, password })
      expect(Problem.parse(await answer.json())).toMatchObject({
        code: 'validation_failed',
        errors: [{ field: 'password', message: 'is one of the most used passwords: choose another' }],
      })
    }
    // The answer does not say which of the two is wrong.
    expect(await codeOf(post(app, '/auth/login', { ...SIGN_IN, password: 'password' }))).toBe('invalid_credentials')
    expect((await post(app, '/auth/register', { ...ADA, password: 'password1 of mine' })).status).toBe(201)
  })
})

describe('register with a guest’s access token', () => {
  test('upgrades the guest, keeping its id and name', async () => {
    const t = await makeApp()
    const guest = await signedIn(post(t.app, '/auth/guest', { name: 'Gwen' }))
    const answer = await post(t.app, '/auth/register', { ...ADA, name: undefined }, guest.access_token)
    expect(answer.status).toBe(201)
    const user = { id: guest.user.id, email: 'ada@example.com', name: 'Gwen' }
    const upgraded = await signedIn(answer)
    expect(upgraded.user).toEqual(user)
    expect(await (await me(t, upgraded.access_token)).json()).toEqual({ ...user, guest: false })
    expect((await signedIn(post(t.app, '/auth/login', SIGN_IN))).user).toEqual(user)
  })

  test('ends the guest’s other sign-ins, so that they do not reach the account', async () => {
    const t = await makeApp()
    const guest = await signedIn(post(t.app, '/auth/guest', {}))
    const user = await signedIn(post(t.app, '/auth/register', ADA, guest.access_token))
    const old = await post(t.app, '/auth/refresh', { refresh_token: guest.refresh_token })
    expect(await codeOf(old)).toBe('invalid_refresh_token')
    expect((await post(t.app, '/auth/refresh', { refresh_token: user.refresh_token })).status).toBe(200)
  })

  test('is refused for a user who is already registered', async () => {
    const t = await makeApp()
    const user = await signedIn(post(t.app, '/auth/register', ADA))
    const again = await post(t.app, '/auth/register', { ...ADA, email: 'b@example.com' }, user.access_token)
    expect(again.status).toBe(409)
    expect(await codeOf(again)).toBe('already_registered')
  })

  test('leaves the guest unchanged when the e-mail address is taken', async () => {
    const t = await makeApp()
    await post(t.app, '/auth/register', ADA)
    const guest = await signedIn(post(t.app, '/auth/guest', {}))
    expect(await codeOf(post(t.app, '/auth/register', ADA, guest.access_token))).toBe('email_taken')
    expect(await (await me(t, guest.access_token)).json()).toEqual({ id: guest.user.id, guest: true })
    expect((await post(t.app, '/auth/refresh', { refresh_token: guest.refresh_token })).status).toBe(200)
  })

  test('refuses an invalid access token instead of ignoring it', async () => {
    const t = await makeApp()
    const answer = await post(t.app, '/auth/register', ADA, 'not.a.token')
    expect(answer.status).toBe(401)
    expect(await codeOf(answer)).toBe('invalid_token')
    expect(await t.store.users.findUserByEmail(ADA.email)).toBeNull()
  })
})

describe('login', () => {
  test('accepts the e-mail address in any case', async () => {
    const t = await makeApp()
    const registered = await signedIn(post(t.app, '/auth/register', ADA))
    const answer = await post(t.app, '/auth/login', { ...SIGN_IN, email: ' Ada@EXAMPLE.com' })
    expect(answer.status).toBe(200)
    const body = await signedIn(answer)
    expect(body.user).toEqual(registered.user)
    expect(body.refresh_token).not.toBe(registered.refresh_token)
  })

  test('gives an unknown user and a wrong password the same answer (A27, A45)', async () => {
    const { app } = await makeApp()
    await post(app, '/auth/register', ADA)
    const attempt = async (email: string) => {
      const answer = await post(app, '/auth/login', { email, password: 'wrong horse' })
      const { requestId } = Problem.parse(await answer.clone().json())
      const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`.replaceAll(requestId, '<id>'))
      return { status: answer.status, headers, body: (await answer.text()).replaceAll(requestId, '<id>') }
    }
    const wrongPassword = await attempt(ADA.email)
    expect(wrongPassword.status).toBe(401)
    expect(await attempt('nobody@example.com')).toEqual(wrongPassword)
  })

  test('takes as long for an unknown user as for a wrong password (A45)', async () => {
    const { hash, check } = createPasswords()
    const stored = await hash('correct horse')
    const timeOf = async (against: string | null) => {
      const start = performance.now()
      expect(await check('wrong horse', against)).toEqual({ matches: false })
      return performance.now() - start
    }
    const unknown: number[] = []
    const wrong: number[] = []
    // In turn, so that a busy machine slows down both; the shortest of each has waited least.
    for (let i = 0; i < 12; i++) {
      unknown.push(await timeOf(null))
      wrong.push(await timeOf(stored))
    }
    expect(Math.min(...unknown) / Math.min(...wrong)).toBeGreaterThan(0.4)
  })

  test('rehashes a password whose hash has outdated parameters', async () => {
    const t = await makeApp()
    const weak = await hash(ADA.password, { memoryCost: 1024, timeCost: 1 })
    const user = { id: 'user_1', email: ADA.email, name: null, passwordHash: weak, createdAt: t.clock.now() }
    await t.store.users.insertUser(user)
    expect((await post(t.app, '/auth/login', SIGN_IN)).status).toBe(200)
    expect((await t.store.users.findUser('user_1'))?.passwordHash).toMatch(/m=19456,t=2,p=1/)
    expect((await post(t.app, '/auth/login', SIGN_IN)).status).toBe(200)
  })

  test('answers busy instead of queueing without limit', async () => {
    const { hash } = createPasswords(1, 1)
    const [running, waiting, refused] = await Promise.allSettled([hash('one'), hash('two'), hash('three')])
    expect(running).toMatchObject({ status: 'fulfilled' })
    expect(waiting).toMatchObject({ status: 'fulfilled' })
    expect(refused).toMatchObject({ reason: { code: 'busy', details: { retryAfterSeconds: 1 } } })
    await expect(hash('four')).resolves.toMatch(/^\$argon2id/)
  })
})

describe('POST /auth/guest', () => {
  test('creates a user without an e-mail address, also without a body', async () => {
    const t = await makeApp()
    const answer = await t.app.request('/auth/guest', { method: 'POST', headers: JSON_TYPE })
    expect(answer.status).toBe(201)
    const { user, access_token } = await signedIn(answer)
    expect(user).toEqual({ id: user.id })
    expect(await (await me(t, access_token)).json()).toEqual({ id: user.id, guest: true })
  })

  test('is refused where guests are disabled', async () => {
    const { app } = await makeApp({ env: { GUESTS: 'off' } })
    const answer = await post(app, '/auth/guest', {})
    expect(answer.status).toBe(403)
    expect(await codeOf(answer)).toBe('guests_disabled')
  })

  test('is limited per client address, regardless of X-Forwarded-For', async () => {
    const { app } = await makeApp({ env: { GUESTS_PER_ADDRESS_PER_HOUR: '2' } })
    const from = (remoteAddress: string, headers: Record<string, string> = {}) =>
      app.request(
        '/auth/guest',
        { method: 'POST', headers: { ...JSON_TYPE, ...headers } },
        { incoming: { socket: { remoteAddress } } },
      )
    expect((await from('2001:db8::1')).status).toBe(201)
    expect((await from('2001:db8::2')).status).toBe(201)
    const third = await from('2001:db8::3', { 'X-Forwarded-For': '198.51.100.1' })
    expect(third.status).toBe(429)
    expect(Number(third.headers.get('Retry-After'))).toBeGreaterThan(3500)
    expect(await codeOf(third)).toBe('rate_limited')
    expect((await from('2001:db8:0:1::1')).status).toBe(201)
  })
})

describe('GET /auth/me', () => {
  test('refuses the token of a user who no longer exists', async () => {
    const t = await makeApp()
    const { access_token } = await signedIn(post(t.app, '/auth/guest', {}))
    await t.store.users.pruneGuests(t.clock.now() + 1, 10)
    const answer = await me(t, access_token)
    expect(answer.status).toBe(401)
    expect(await codeOf(answer)).toBe('invalid_token')
  })
})

describe('logout', () => {
  test('logout ends only the sign-in of its refresh token (A43)', async () => {
    const { app } = await makeApp()
    const first = await signedIn(post(app, '/auth/register', ADA))
    const second = await signedIn(post(app, '/auth/login', SIGN_IN))
    expect((await post(app, '/auth/logout', { refresh_token: first.refresh_token })).status).toBe(204)
    expect(await codeOf(post(app, '/auth/refresh', { refresh_token: first.refresh_token }))).toBe(
      'invalid_refresh_token',
    )
    expect((await post(app, '/auth/refresh', { refresh_token: second.refresh_token })).status).toBe(200)
  })

  test('logout succeeds for an unknown or already revoked token (A29)', async () => {
    const { app } = await makeApp()
    const { refresh_token } = await signedIn(post(app, '/auth/guest', {}))
    expect((await post(app, '/auth/logout', { refresh_token: 'unknown' })).status).toBe(204)
    expect((await post(app, '/auth/logout', { refresh_token })).status).toBe(204)
    expect((await post(app, '/auth/logout', { refresh_token })).status).toBe(204)
  })
})
