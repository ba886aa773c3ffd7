import { expect, onTestFinished, test } from 'vitest'
import { inspect, newDatabase } from '../database.ts'
import { expectRefused, guest, refresh, refreshed } from '../refreshing.ts'
import { makeApp } from '../support.ts'
import { report, sized } from './size.ts'

const ROUNDS = sized(100, 1_000)
const ALIVE = 'select 1 from refresh_families where revoked_at is null'

/** The app, and a second connection to inspect what is stored. */
async function inspectedApp() {
  const databaseUrl = await newDatabase({ lasts: true })
  const t = await makeApp({ databaseUrl, env: { GUESTS_PER_ADDRESS_PER_HOUR: '100000' } })
  const { rows, close } = await inspect(databaseUrl)
  onTestFinished(close)
  return { ...t, rows }
}

test(`${ROUNDS} races of two refreshes with one token each leave one family with one valid token`, async () => {
  const t = await inspectedApp()
  const { user, refresh_token } = await guest(t)
  const leaves = () => t.rows('select hash from refresh_tokens where used_at is null')
  const families = () => t.rows('select user_id, revoked_at from refresh_families')
  let token = refresh_token
  let grandparent: string | null = null
  for (let round = 0; round < ROUNDS; round++) {
    // The later of the two comes in the same turn, in the next one, or after the first has been answered.
    const first = refreshed(t, token)
    if (round % 3 === 1) await new Promise((resolve) => setImmediate(resolve))
    if (round % 3 === 2) await first
    const [one, other] = await Promise.all([first, refreshed(t, token)])
    expect(other).toBe(one)
    // Both answers were lost: asked for again at the last moment, and never after a later generation has been used.
    if (round % 4 === 0) {
      t.clock.advance(10)
      expect(await refreshed(t, token)).toBe(one)
    }
    expect(await leaves()).toHaveLength(1)
    expect(await families()).toEqual([{ user_id: user.id, revoked_at: null }])
    grandparent = token
    token = one
  }
  if (grandparent === null) throw new Error('There was no round')
  t.clock.advance(10.001)
  await expectRefused(t, grandparent)
  await expectRefused(t, token)
  expect(await families()).toEqual([{ user_id: user.id, revoked_at: expect.any(Number) }])
  report('refresh races', { rounds: ROUNDS, families: 1, livingLeaves: 1 })
})

test(`after each of ${ROUNDS} raced refreshes, a retry in time succeeds and later reuse revokes the family`, async () => {
  const t = await inspectedApp()
  for (let round = 0; round < ROUNDS; round++) {
    const { refresh_token } = await guest(t)
    const [child] = await Promise.all([refreshed(t, refresh_token), refreshed(t, refresh_token)])
    t.clock.advance(9.999)
    expect(await refreshed(t, refresh_token)).toBe(child)
    // Later reuse: after the time for a lost answer, or at any time once the child has been used.
    const late = round % 2 === 0
    const newest = late ? child : await refreshed(t, child)
    if (late) t.clock.advance(0.002)
    await expectRefused(t, refresh_token)
    await expectRefused(t, newest)
    expect(await t.rows(ALIVE)).toEqual([])
  }
})

test('a thief and the owner who race with different generations both lose the sign-in', async () => {
  const t = await inspectedApp()
  for (let round = 0; round < sized(20, 200); round++) {
    const { refresh_token } = await guest(t)
    const child = await refreshed(t, refresh_token)
    await Promise.all([refresh(t, child), refresh(t, refresh_token), refresh(t, child)])
    await refresh(t, refresh_token)
    await expectRefused(t, child)
  }
  expect(await t.rows(ALIVE)).toEqual([])
})
