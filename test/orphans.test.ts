import { describe, expect, test } from 'vitest'
import { openStore } from '../src/store/store.ts'
import { closeLater, newDatabase } from './database.ts'
import { directSessions } from './direct-sessions.ts'
import { guestInSession, ORPHANING_WRITES, outcomeOf } from './orphans.ts'
import { refusal, scene } from './scene.ts'
import { post } from './support.ts'

const INVALID_TOKEN = { status: 401, code: 'invalid_token' }

describe('a request whose user is deleted while LiveKit is asked', () => {
  test.each([
    ['/token', 'claiming a room', { room: 'lesson' }, 'ListRooms'],
    ['/token', 'opening a session', { auto_create_room: true }, 'CreateRoom'],
    ['/rooms', 'claiming a room', { room: 'lesson' }, 'ListRooms'],
  ])('is refused as it would be a moment later: %s %s', async (path, _, request, method) => {
    const s = await scene()
    const { bearer } = await s.newUser()
    s.sfu.before(method, () => s.store.users.pruneGuests(s.clock.now() + 1, 500))
    expect(await refusal(post(s.app, path, request, bearer))).toEqual(INVALID_TOKEN)
    expect(await refusal(post(s.app, path, request, bearer))).toEqual(INVALID_TOKEN)
  })
})

test.each(Object.entries(ORPHANING_WRITES))(
  'what %s would belong to may have been deleted: that is an outcome, not a violated constraint',
  async (_, { write, outcome }) => {
    const store = closeLater(await openStore(await newDatabase(), { poolSize: 4 }))
    const known = await guestInSession(store)
    await directSessions(store).end(known.session.id, 'user')
    await store.users.pruneGuests(Number.MAX_SAFE_INTEGER, 500)
    expect(await store.sessions.find(known.session.id)).toBeNull()
    expect(await outcomeOf(write(store, known))).toEqual(outcome)
  },
)
