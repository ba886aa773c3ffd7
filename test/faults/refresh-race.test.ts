import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, onTestFinished, test } from 'vitest'
import { expectRefused, guest, refresh, refreshed } from '../refreshing.ts'
import { makeApp } from '../support.ts'
import { report, sized } from './size.ts'

const ROUNDS = sized(100, 1_000)

/** The app on a file, and a second connection to inspect what is stored. */
async function makeAppOnFile() {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-race-'))
  const databaseUrl = `file:${join(folder, 'behalf.db')}`
  const t = await makeApp({ databaseUrl, env: { GUESTS_PER_ADDRESS_PER_HOUR: '100000' } })
  const raw = new Database(join(folder, 'behalf.db'), { readonly: true })
  onTestFinished(async () => {
    raw.close()
    await t.store.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return { ...t, raw }
}

test(`${ROUNDS} races of two refreshes with one token each leave one family with one valid token`, async () => {
  const t = await makeAppOnFile()
  const { user, refresh_token } = await guest(t)
  const leaves = t.raw.prepare('select hash from refresh_tokens where used_at is null')
  const families = t.raw.prepare('select user_id, revoked_at from refresh_families')
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
    expect(leaves.all()).toHaveLength(1)
    expect(families.all()).toEqual([{ user_id: user.id, revoked_at: null }])
    grandparent = token
    token = one
  }
  if (grandparent === null) throw new Error('There was no round')
  t.clock.advance(10.001)
  await expectRefused(t, grandparent)
  await expectRefused(t, token)
  expect(families.all()).toEqual([{ user_id: user.id, revoked_at: expect.any(Number) }])
  report('refresh races', { rounds: ROUNDS, families: 1, livingLeaves: 1 })
})

test(`after each of ${ROUNDS} raced refreshes, a retry in time succeeds and later reuse revokes the family`, async () => {
  const t = await makeAppOnFile()
  const alive = t.raw.prepare('select 1 from refresh_families where revoked_at is null')
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
    expect(alive.all()).toEqual([])
  }
})

test('a thief and the owner who race with different generations both lose the sign-in', async () => {
  const t = await makeAppOnFile()
  for (let round = 0; round < sized(20, 200); round++) {
    const { refresh_token } = await guest(t)
    const child = await refreshed(t, refresh_token)
    await Promise.all([refresh(t, child), refresh(t, refresh_token), refresh(t, child)])
    await refresh(t, refresh_token)
    await expectRefused(t, child)
  }
  const alive = t.raw.prepare('select 1 from refresh_families where revoked_at is null')
  expect(alive.all()).toEqual([])
})
