import { decodeJwt } from 'jose'
import { describe, expect, test, vi } from 'vitest'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { sign, userClaims } from './forged.ts'
import { ENDED, refusal, type SignedIn, scene } from './scene.ts'
import { openStream } from './stream-client.ts'
import { timedCall } from './stream-scene.ts'
import { post } from './support.ts'

const ADA = { email: 'ada@example.com', password: 'correct horse' }
const NEXT = { current_password: ADA.password, new_password: 'battery staple' }
const INVALID = { status: 401, code: 'invalid_token' }
const WRONG = { status: 401, code: 'invalid_credentials' }

/** Ada, signed in twice, each time with a call under way, and an agent in both. */
async function setUp() {
  const s = await scene()
  const agent = await s.newAgent()
  const signedIn = async (answer: Response | Promise<Response>): Promise<SignedIn> => {
    const { user, access_token, refresh_token } = SignedInResponse.parse(await (await answer).json())
    return { id: user.id, bearer: access_token, refreshToken: refresh_token }
  }
  async function call(user: SignedIn) {
    const session = await s.newSession(user)
    s.sfu.join(session.joinToken)
    expect((await s.progress(agent.bearer, session.pair)).status).toBe(201)
    return { ...user, ...session }
  }
  const guest = async () => signedIn(post(s.app, '/auth/guest', {}))
  const login = async (password = ADA.password) => signedIn(post(s.app, '/auth/login', { ...ADA, password }))
  const phone = await call(await signedIn(post(s.app, '/auth/register', ADA)))
  const laptop = await call(await login())
  type Call = typeof phone
  return {
    s,
    agent,
    signedIn,
    call,
    guest,
    login,
    phone,
    laptop,
    refresh: ({ refreshToken }: SignedIn) => post(s.app, '/auth/refresh', { refresh_token: refreshToken }),
    logout: ({ refreshToken }: SignedIn) => post(s.app, '/auth/logout', { refresh_token: refreshToken }),
    /** Every use of the old access token is refused. */
    async expectNoAccess({ bearer, pair }: Call) {
      const own = `/sessions/${pair.sessionId}`
      for (const path of ['/auth/me', '/sessions', own, `${own}/events`, `${own}/audit`]) {
        expect(await refusal(s.get(path, bearer)), path).toEqual(INVALID)
      }
      for (const path of ['/token', '/rooms', '/auth/logout-all']) {
        expect(await refusal(post(s.app, path, {}, bearer)), path).toEqual(INVALID)
      }
      expect(await refusal(post(s.app, '/auth/password', NEXT, bearer))).toEqual(INVALID)
    },
    /** The agent is refused at once, and the room is soon deleted in LiveKit. */
    async expectHungUp({ pair, room }: Call) {
      expect(await refusal(s.progress(agent.bearer, pair))).toEqual(ENDED)
      expect((await s.store.sessions.find(pair.sessionId))?.endReason).toBe('signed_out')
      await vi.waitFor(() => expect(s.sfu.rooms.has(room)).toBe(false), 10_000)
    },
    async expectUntouched({ bearer, pair }: Call) {
      expect((await s.get('/auth/me', bearer)).status).toBe(200)
      expect((await s.progress(agent.bearer, pair)).status).toBe(201)
    },
  }
}

test('an access token names its sign-in, which a refresh keeps', async () => {
  const { phone, laptop, refresh, signedIn } = await setUp()
  const sid = ({ bearer }: SignedIn) => decodeJwt(bearer).sid
  expect(sid(phone)).toMatch(/^fam_/)
  expect(sid(laptop)).not.toBe(sid(phone))
  expect(sid(await signedIn(refresh(phone)))).toBe(sid(phone))
})

test('an access token without a sign-in, with an unknown one or another user’s is refused', async () => {
  const { s, phone, guest } = await setUp()
  const claims = userClaims(s, phone)
  expect((await s.get('/auth/me', await sign(s, claims))).status).toBe(200)
  for (const sid of [undefined, 1, 'fam_unknown', decodeJwt((await guest()).bearer).sid]) {
    expect(await refusal(s.get('/auth/me', await sign(s, { ...claims, sid })))).toEqual(INVALID)
  }
})

describe('logout', () => {
  test('ends that sign-in’s access and call at once, and no other (A43)', async () => {
    const { phone, laptop, logout, expectNoAccess, expectHungUp, expectUntouched } = await setUp()
    expect((await logout(phone)).status).toBe(204)
    await expectNoAccess(phone)
    await expectHungUp(phone)
    await expectUntouched(laptop)
  })

  test('ends a call that an earlier version of the service opened', async () => {
    const { s, phone, logout } = await setUp()
    const times = { createdAt: s.clock.now(), tokenExpiresAt: s.clock.now() + 900_000 }
    const opened = {
      userId: phone.id,
      signInId: null,
      room: 'lesson',
      agentName: null,
      agentData: null,
      agentDeployment: null,
    }
    await s.sessions.open({ ...opened, id: 'sess_earlier', ...times })
    await logout(phone)
    expect((await s.store.sessions.find('sess_earlier'))?.endReason).toBe('signed_out')
  })

  test('ends a call that was being opened meanwhile', async () => {
    const { s, phone, logout } = await setUp()
    const { isSignedIn } = s.store.users
    let reads = 0
    s.store.users.isSignedIn = async (...args) => {
      const isActive = await isSignedIn(...args)
      // The guard's read lets the request through; then the user logs out.
      if (++reads === 1) await logout(phone)
      return isActive
    }
    expect(await refusal(post(s.app, '/token', {}, phone.bearer))).toEqual(INVALID)
    const sessions = await s.store.sessions.listByUser(phone.id, 10)
    expect(sessions.filter(({ endReason }) => endReason === 'signed_out')).toHaveLength(2)
    expect(sessions).toHaveLength(3)
  })
})

test('reuse of a refresh token ends that sign-in’s access and call at once, and no other', async () => {
  const { s, phone, laptop, refresh, expectNoAccess, expectHungUp, expectUntouched } = await setUp()
  expect((await refresh(phone)).status).toBe(200)
  s.clock.advance(11)
  expect((await refresh(phone)).status).toBe(401)
  await expectNoAccess(phone)
  await expectHungUp(phone)
  await expectUntouched(laptop)
})

describe('POST /auth/logout-all', () => {
  test('ends every sign-in and call of that user, and of no other (A43)', async () => {
    const { s, phone, laptop, guest, call, refresh, expectNoAccess, expectHungUp, expectUntouched } = await setUp()
    const other = await call(await guest())
    expect((await s.app.request('/auth/logout-all', bearerOf(phone))).status).toBe(204)
    for (const one of [phone, laptop]) {
      await expectNoAccess(one)
      await expectHungUp(one)
      expect((await refresh(one)).status).toBe(401)
    }
    await expectUntouched(other)
  })
})

const bearerOf = ({ bearer }: SignedIn) => ({ method: 'POST', headers: { Authorization: `Bearer ${bearer}` } })

describe('POST /auth/password', () => {
  test('changes it, ends every sign-in and the others’ calls, and begins a new sign-in', async () => {
    const t = await setUp()
    const { s, phone, laptop, login, signedIn, refresh, logout, expectNoAccess, expectHungUp, expectUntouched } = t
    const answer = await post(s.app, '/auth/password', NEXT, phone.bearer)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('Cache-Control')).toBe('no-store')
    const next = { ...phone, ...(await signedIn(answer)) }
    for (const old of [phone, laptop]) {
      await expectNoAccess(old)
      expect((await refresh(old)).status).toBe(401)
    }
    await expectHungUp(laptop)
    await expectUntouched(next)
    expect(await refusal(post(s.app, '/auth/login', ADA))).toEqual(WRONG)
    await expectUntouched({ ...next, ...(await login(NEXT.new_password)) })
    // The call that it kept ends with the new sign-in.
    await logout(next)
    await expectHungUp(next)
  })

  test('keeps the call that it was made in, even when another sign-in ends later', async () => {
    const { s, phone, login, logout, signedIn, expectUntouched } = await setUp()
    const next = { ...phone, ...(await signedIn(post(s.app, '/auth/password', NEXT, phone.bearer))) }
    await logout(await login(NEXT.new_password))
    await expectUntouched(next)
  })

  test('can be repeated when the others’ calls could not be ended', async () => {
    const { s, phone, laptop, expectHungUp } = await setUp()
    vi.spyOn(s.store.sessions, 'change').mockRejectedValueOnce(new Error('disk full'))
    expect((await post(s.app, '/auth/password', NEXT, phone.bearer)).status).toBe(500)
    expect((await post(s.app, '/auth/password', NEXT, phone.bearer)).status).toBe(200)
    await expectHungUp(laptop)
  })

  test('refuses a wrong password as often as a login does, and leaves everything as it was', async () => {
    const { s, phone, laptop, expectUntouched } = await setUp()
    const wrong = () => post(s.app, '/auth/password', { ...NEXT, current_password: 'wrong horse' }, phone.bearer)
    for (let i = 0; i < 10; i++) expect(await refusal(wrong())).toEqual(WRONG)
    expect(await refusal(wrong())).toEqual({ status: 429, code: 'rate_limited' })
    await expectUntouched(phone)
    await expectUntouched(laptop)
  })

  test('takes no common password, and none for a guest', async () => {
    const { s, phone, guest } = await setUp()
    const INVALID_FIELD = { status: 422, code: 'validation_failed' }
    const common = post(s.app, '/auth/password', { ...NEXT, new_password: 'password' }, phone.bearer)
    expect(await refusal(common)).toEqual(INVALID_FIELD)
    expect(await refusal(post(s.app, '/auth/password', NEXT, (await guest()).bearer))).toEqual(INVALID_FIELD)
  })

  test('leaves no sign-in to a login whose password it changed meanwhile', async () => {
    const { s, phone, signedIn } = await setUp()
    const { insertFamily } = s.store.users
    s.store.users.insertFamily = async (...args) => {
      s.store.users.insertFamily = insertFamily
      await signedIn(post(s.app, '/auth/password', NEXT, phone.bearer))
      return insertFamily(...args)
    }
    expect(await refusal(post(s.app, '/auth/login', ADA))).toEqual(WRONG)
  })

  test('lets one of two that come at once win', async () => {
    const { s, phone, laptop } = await setUp()
    const answers = await Promise.all([phone, laptop].map(({ bearer }) => post(s.app, '/auth/password', NEXT, bearer)))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 401])
  })
})

test('a guest’s upgrade ends the guest’s access at once, and keeps the call that it was made in', async () => {
  const { s, guest, call, signedIn, logout, expectNoAccess, expectHungUp, expectUntouched } = await setUp()
  const gwen = await call(await guest())
  const account = { email: 'gwen@example.com', password: ADA.password }
  const upgraded = { ...gwen, ...(await signedIn(post(s.app, '/auth/register', account, gwen.bearer))) }
  await expectNoAccess(gwen)
  await expectUntouched(upgraded)
  await logout(upgraded)
  await expectHungUp(upgraded)
})

test('reuse of a refresh token ends the call as well when the first attempt to end it failed', async () => {
  const { s, phone, refresh, expectHungUp } = await setUp()
  await refresh(phone)
  s.clock.advance(11)
  vi.spyOn(s.store.sessions, 'change').mockRejectedValueOnce(new Error('disk full'))
  expect((await refresh(phone)).status).toBe(500)
  expect((await refresh(phone)).status).toBe(401)
  await expectHungUp(phone)
})

test('an open event stream ends with the sign-in that opened it', async () => {
  const { s, url, user, open } = await timedCall({ poll: 20 })
  const stream = await open()
  await stream.until(() => expect(stream.events.length).toBeGreaterThan(0))
  await post(s.app, '/auth/logout', { refresh_token: user.refreshToken })
  expect(await stream.over).toBe(true)
  expect(stream.closed).toEqual({ reason: 'signed_out' })
  await expect(openStream(url, user)).rejects.toThrow()
})
