import { describe, expect, test } from 'vitest'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { makeApp, post } from './support.ts'

const ADA = { email: 'ada@example.com', password: 'correct horse', name: 'Ada' }
const DAY_SECONDS = 24 * 60 * 60

const signedIn = async (answer: Response | Promise<Response>) => SignedInResponse.parse(await (await answer).json())
describe('pruning', () => {
  test('deletes guests that were idle for 30 days, and no other user', async () => {
    const t = await makeApp()
    const idle = []
    for (let i = 0; i < 45; i++) idle.push(await signedIn(post(t.app, '/auth/guest', {})))
    const user = await signedIn(post(t.app, '/auth/register', ADA))
    const active = await signedIn(post(t.app, '/auth/guest', {}))
    t.clock.advance(20 * DAY_SECONDS)
    expect((await post(t.app, '/auth/refresh', { refresh_token: active.refresh_token })).status).toBe(200)
    await t.prune()
    for (const { user } of idle) expect(await t.store.users.findUser(user.id)).not.toBeNull()
    // When they were last seen is known to the hour.
    t.clock.advance(10 * DAY_SECONDS + 60 * 60 + 1)
    await t.prune()
    for (const { user } of idle) expect(await t.store.users.findUser(user.id)).toBeNull()
    expect(await t.store.users.findUser(active.user.id)).not.toBeNull()
    expect(await t.store.users.findUser(user.user.id)).not.toBeNull()
  })

  test('deletes no guest whose refresh token is still valid', async () => {
    const t = await makeApp()
    const refresh = (token: string) => signedIn(post(t.app, '/auth/refresh', { refresh_token: token }))
    let guest = await signedIn(post(t.app, '/auth/guest', {}))
    for (const minutes of [1, 59]) {
      t.clock.advance(minutes * 60)
      guest = await refresh(guest.refresh_token)
      t.clock.advance(30 * DAY_SECONDS - 1)
      await t.prune()
      guest = await refresh(guest.refresh_token)
    }
  })

  test('deletes refresh token families after 90 days', async () => {
    /** How many rows of them are left after so many seconds and a pruning. */
    async function leftAfter(seconds: number) {
      const t = await makeApp()
      await post(t.app, '/auth/register', ADA)
      t.clock.advance(seconds)
      await t.prune()
      const left = await t.store.users.pruneFamilies({ expiredBefore: Number.MAX_SAFE_INTEGER, revokedBefore: 0 }, 10)
      expect((await post(t.app, '/auth/login', { email: ADA.email, password: ADA.password })).status).toBe(200)
      return left
    }
    expect(await leftAfter(90 * DAY_SECONDS)).toBe(2)
    expect(await leftAfter(90 * DAY_SECONDS + 1)).toBe(0)
  })

  describe('pruning a sign-in that was refreshed very often', () => {
    const LIMITS = { idleMs: 30 * DAY_SECONDS * 1000, graceMs: 10_000 }
    const REFRESHES = 1200

    /** A guest with as many used tokens, and what becomes of the first of them. */
    async function refreshedOften() {
      const t = await makeApp()
      const { user, access_token } = await signedIn(post(t.app, '/auth/guest', {}))
      const { users } = t.store
      const at = t.clock.now()
      const first = { hash: 'token-0', expiresAt: at + LIMITS.idleMs }
      await users.insertFamily({ id: 'fam', userId: user.id, expiresAt: at + 90 * DAY_SECONDS * 1000, first }, null, at)
      for (let i = 0; i < REFRESHES; i++) await users.rotate(`token-${i}`, `token-${i + 1}`, at, LIMITS)
      const reuse = async () => (await users.rotate('token-0', 'token-1', t.clock.now(), LIMITS)).outcome
      /** Rows deleted, write by write. */
      async function written(method: 'pruneGuests' | 'pruneFamilies') {
        const rows: number[] = []
        const prune = users[method].bind(users) as (...args: unknown[]) => Promise<number>
        Object.assign(users, { [method]: async (...args: unknown[]) => rows.at(rows.push(await prune(...args)) - 1) })
        await t.prune()
        return rows
      }
      return { t, user, accessToken: access_token, reuse, written }
    }

    test('deletes a guest in writes of at most 500 rows', async () => {
      const { t, user, written } = await refreshedOften()
      t.clock.advance(31 * DAY_SECONDS)
      const rows = await written('pruneGuests')
      expect(Math.max(...rows)).toBe(500)
      // The tokens of this sign-in and of the guest's own, both families and the guest.
      expect(rows.reduce((sum, count) => sum + count)).toBe(REFRESHES + 1 + 1 + 2 + 1)
      expect(await t.store.users.findUser(user.id)).toBeNull()
    })

    test('keeps every token until the whole family has expired, then deletes the family in writes of 500 rows', async () => {
      const { t, reuse, written } = await refreshedOften()
      t.clock.advance(11)
      expect(await reuse()).toBe('reused')
      t.clock.advance(DAY_SECONDS)
      expect(await written('pruneFamilies')).toEqual([0])
      expect(await reuse()).toBe('revoked')
      t.clock.advance(1)
      expect(await written('pruneFamilies')).toEqual([500, 500, 202])
      expect(await reuse()).toBe('unknown')
    })

    test('a guest’s upgrade revokes the family without deleting it', async () => {
      const { t, accessToken, reuse } = await refreshedOften()
      expect((await post(t.app, '/auth/register', ADA, accessToken)).status).toBe(201)
      expect(await reuse()).toBe('revoked')
    })
  })
})
