import { describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { directSessions } from './direct-sessions.ts'
import { type SignedIn, scene } from './scene.ts'
import { post, type TestApp } from './support.ts'
import { mint, refusedFields } from './token-client.ts'

const RoomAnswer = z.strictObject({ room: z.string(), room_name: z.string() })
const DAY_SECONDS = 24 * 60 * 60
const forbidden = { status: 403, code: 'room_forbidden', fields: ['room'] }

const askFor = ({ app }: Pick<TestApp, 'app'>, { bearer }: Pick<SignedIn, 'bearer'>, request: unknown = {}) =>
  post(app, '/rooms', request, bearer)

/** Status and name from a successful answer. */
async function statusAndName(asked: Response | Promise<Response>) {
  const answer = await asked
  const { room, room_name } = RoomAnswer.parse(await answer.json())
  expect(room_name).toBe(room)
  return { status: answer.status, room }
}

describe('POST /rooms', () => {
  test('claims and creates a room: 201 at first, 200 when the user already owns it', async () => {
    const s = await scene()
    const user = await s.newUser()
    expect(await statusAndName(askFor(s, user, { room: 'lesson' }))).toEqual({ status: 201, room: 'lesson' })
    const { sid } = s.sfu.rooms.get('lesson') ?? {}
    expect(sid).toBeDefined()
    expect(await statusAndName(askFor(s, user, { room_name: 'lesson' }))).toEqual({ status: 200, room: 'lesson' })
    expect(s.sfu.rooms.get('lesson')?.sid).toBe(sid)
    expect(s.sfu.rooms.size).toBe(1)
  })

  test('recreates a room that LiveKit has closed', async () => {
    const s = await scene()
    const user = await s.newUser()
    await askFor(s, user, { room: 'lesson' })
    s.sfu.finishRoom('lesson')
    expect((await askFor(s, user, { room: 'lesson' })).status).toBe(200)
    expect(s.sfu.rooms.has('lesson')).toBe(true)
  })

  test('generates an unguessable name when none is given', async () => {
    const s = await scene()
    const user = await s.newUser()
    const headers = { Authorization: `Bearer ${user.bearer}` }
    const answers = [
      askFor(s, user),
      askFor(s, user, { room: null }),
      s.app.request('/rooms', { method: 'POST', headers }),
    ]
    const rooms = await Promise.all(answers.map(statusAndName))
    for (const { status, room } of rooms) {
      expect(status).toBe(201)
      expect(room).toMatch(/^room_[0-9a-f]{44}$/)
    }
    expect(new Set(rooms.map(({ room }) => room)).size).toBe(3)
    expect(await mint(s, user.bearer, { room: rooms[0]?.room })).toMatchObject({ room: rooms[0]?.room })
    const other = await s.newUser()
    expect(await refusedFields(askFor(s, other, { room: rooms[0]?.room }))).toEqual(forbidden)
  })

  test('gives a room to one of two users who ask at once', async () => {
    const s = await scene()
    const users = [await s.newUser(), await s.newUser()]
    const answers = await Promise.all(users.map((user) => askFor(s, user, { room: 'lesson' })))
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 403])
  })

  test('answers 201 to one of two simultaneous requests of a user, and 200 to the other', async () => {
    const s = await scene()
    const user = await s.newUser()
    const release = s.sfu.hold()
    const answers = [1, 2].map(() => statusAndName(askFor(s, user, { room: 'lesson' })))
    await vi.waitFor(() => expect(s.sfu.asked('ListRooms')).toBe(2), 10_000)
    release()
    expect((await Promise.all(answers)).map(({ status }) => status).sort()).toEqual([200, 201])
  })

  test('answers 200 when another request of the user created the room while LiveKit was asked', async () => {
    const s = await scene()
    const user = await s.newUser()
    const release = s.sfu.hold()
    const answer = statusAndName(askFor(s, user, { room: 'lesson' }))
    await vi.waitFor(() => expect(s.sfu.asked('ListRooms')).toBe(1), 10_000)
    await s.store.rooms.claim('lesson', user.id, s.clock.now(), 1)
    s.sfu.enter('lesson', { identity: user.id })
    release()
    expect(await answer).toEqual({ status: 200, room: 'lesson' })
  })

  test('refuses another user’s room, and an unclaimed one that exists in LiveKit', async () => {
    const s = await scene()
    const [ada, eve] = [await s.newUser(), await s.newUser()]
    await askFor(s, ada, { room: 'lesson' })
    expect(await refusedFields(askFor(s, eve, { room: 'lesson' }))).toEqual(forbidden)
    s.sfu.enter('of-another-system', { identity: 'somebody' })
    expect(await refusedFields(askFor(s, eve, { room: 'of-another-system' }))).toEqual(forbidden)
    expect(await s.store.rooms.findOwner('of-another-system')).toBeNull()
  })

  test('answers 503 and claims nothing while LiveKit does not answer', async () => {
    const s = await scene()
    const user = await s.newUser()
    await askFor(s, user, { room: 'mine' })
    s.sfu.mode = 'error500'
    for (const request of [{ room: 'new' }, { room: 'mine' }, {}]) {
      const refused = await askFor(s, user, request)
      expect(refused.headers.get('Retry-After')).toBe('2')
      expect(await refusedFields(refused)).toEqual({ status: 503, code: 'livekit_unavailable', fields: [] })
    }
    expect(await s.store.rooms.findOwner('new')).toBeNull()
    s.sfu.mode = 'ok'
    expect((await askFor(s, user, { room: 'new' })).status).toBe(201)
  })

  test.each([
    ['a control character', { room: 'a\u0000' }, ['room']],
    ['a long name', { room: 'r'.repeat(129) }, ['room']],
    ['a long room_name', { room_name: 'r'.repeat(129) }, ['room_name']],
    ['no string', { room: 7 }, ['room']],
    ['two names', { room: 'a', room_name: 'b' }, ['room']],
  ])('refuses %s', async (_, request, fields) => {
    const s = await scene()
    const refused = await refusedFields(askFor(s, await s.newUser(), request))
    expect(refused).toEqual({ status: 422, code: 'validation_failed', fields })
    expect(s.sfu.rooms.size).toBe(0)
  })
})

describe('a session in a room created in advance', () => {
  test('is for the room’s owner only', async () => {
    const s = await scene()
    const [ada, eve] = [await s.newUser(), await s.newUser()]
    await askFor(s, ada, { room: 'lesson' })
    expect(await mint(s, ada.bearer, { room: 'lesson' })).toMatchObject({ room: 'lesson' })
    expect(await refusedFields(post(s.app, '/token', { room: 'lesson' }, eve.bearer))).toEqual(forbidden)
  })
})

describe('ROOM_POLICY=open', () => {
  test('admits any signed-in user to any claimed room, and to no other', async () => {
    const s = await scene({ env: { ROOM_POLICY: 'open' } })
    const [ada, eve] = [await s.newUser(), await s.newUser()]
    await askFor(s, ada, { room: 'lesson' })
    expect(await mint(s, eve.bearer, { room: 'lesson' })).toMatchObject({ room: 'lesson', identity: eve.id })
    expect(await statusAndName(askFor(s, eve, { room: 'lesson' }))).toEqual({ status: 200, room: 'lesson' })
    expect(await s.store.rooms.findOwner('lesson')).toBe(ada.id)
    s.sfu.enter('of-another-system', { identity: 'somebody' })
    expect(await refusedFields(post(s.app, '/token', { room: 'of-another-system' }, eve.bearer))).toEqual(forbidden)
  })
})

describe('a claim to a room name', () => {
  /** A claim's last use is known to the hour. */
  const LATE_DAYS = (60 * 60 + 1) / DAY_SECONDS
  const ADA = { email: 'ada@example.com', password: 'correct horse' }

  /** The app with an account, which signs in again after every pause. Not a guest, because guests are pruned. */
  async function withAccount() {
    const s = await scene()
    await post(s.app, '/auth/register', ADA)
    const signIn = async () => {
      const { user, access_token } = SignedInResponse.parse(await (await post(s.app, '/auth/login', ADA)).json())
      return { id: user.id, bearer: access_token }
    }
    const ownerAfter = async (days: number) => {
      s.clock.advance(days * DAY_SECONDS)
      await s.prune()
      return s.store.rooms.findOwner('lesson')
    }
    return { s, signIn, ownerAfter }
  }

  test('lasts 30 days, after which any user can claim the name', async () => {
    const { s, signIn, ownerAfter } = await withAccount()
    const ada = await signIn()
    await askFor(s, ada, { room: 'lesson' })
    s.sfu.finishRoom('lesson')
    expect(await ownerAfter(30)).toBe(ada.id)
    expect(await ownerAfter(LATE_DAYS)).toBeNull()
    const eve = await s.newUser()
    await mint(s, eve.bearer, { room: 'lesson' })
    expect(await s.store.rooms.findOwner('lesson')).toBe(eve.id)
  })

  test('lasts until 30 days after the room’s last session', async () => {
    const { s, signIn, ownerAfter } = await withAccount()
    const { id, bearer } = await signIn()
    await mint(s, bearer, { room: 'lesson' })
    expect(await ownerAfter(20)).toBe(id)
    for (const minutes of [0, 59]) {
      s.clock.advance(minutes * 60)
      const { session_id = '' } = await mint(s, (await signIn()).bearer, { room: 'lesson' })
      await s.reconcile()
      await directSessions(s.store).end(session_id, 'user')
    }
    expect(await ownerAfter(30)).toBe(id)
    expect(await ownerAfter(LATE_DAYS)).toBeNull()
  })

  test('that a wrong clock dated ahead is dated again by its next use', async () => {
    const { s, signIn, ownerAfter } = await withAccount()
    const { id, bearer } = await signIn()
    await s.store.rooms.claim('lesson', id, s.clock.now() + 365 * DAY_SECONDS * 1000, 10)
    const { session_id = '' } = await mint(s, bearer, { room: 'lesson' })
    await s.reconcile()
    await directSessions(s.store).end(session_id, 'user')
    expect(await ownerAfter(30)).toBe(id)
    expect(await ownerAfter(LATE_DAYS)).toBeNull()
  })

  test('is kept for a session that is just being opened after 30 days without one', async () => {
    const { s, signIn } = await withAccount()
    const ada = await signIn()
    await askFor(s, ada, { room: 'lesson' })
    s.sfu.finishRoom('lesson')
    s.clock.advance(31 * DAY_SECONDS)
    const { bearer } = await signIn()
    const prunes = vi.fn(s.prune)
    s.sfu.before('CreateRoom', prunes)
    await mint(s, bearer, { room: 'lesson', auto_create_room: true })
    expect(prunes).toHaveBeenCalledOnce()
    expect(await s.store.rooms.findOwner('lesson')).toBe(ada.id)
  })

  test('is not prolonged by another user’s attempts', async () => {
    const { s, signIn, ownerAfter } = await withAccount()
    await askFor(s, await signIn(), { room: 'lesson' })
    s.sfu.finishRoom('lesson')
    s.clock.advance(20 * DAY_SECONDS)
    expect(await refusedFields(askFor(s, await s.newUser(), { room: 'lesson' }))).toEqual(forbidden)
    expect(await ownerAfter(10 + LATE_DAYS)).toBeNull()
  })

  test('lasts as long as a session in the room', async () => {
    const { s, signIn, ownerAfter } = await withAccount()
    const { id, bearer } = await signIn()
    s.sfu.join((await mint(s, bearer, { room: 'lesson' })).token)
    await s.reconcile()
    expect(await ownerAfter(300)).toBe(id)
  })
})
