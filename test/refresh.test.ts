import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, expect, test } from 'vitest'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { Problem } from '../src/http/problem.ts'
import { newDatabase } from './database.ts'
import { expectRefused, guest, refresh, refreshed } from './refreshing.ts'
import { makeApp, post } from './support.ts'

const DAY_SECONDS = 24 * 60 * 60

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

/** The app on a file, and a second connection to inspect what is stored. */
async function makeAppOnFile() {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-refresh-'))
  folders.push(folder)
  const t = await makeApp({ databaseUrl: `file:${join(folder, 'behalf.db')}` })
  return { ...t, folder, raw: new Database(join(folder, 'behalf.db'), { readonly: true }) }
}

test('a refresh returns a new token pair for the same user (A17)', async () => {
  const t = await makeApp()
  const { user, refresh_token } = await guest(t)
  t.clock.advance(1)
  const answer = await refresh(t, refresh_token)
  expect(answer.headers.get('Cache-Control')).toBe('no-store')
  const body = SignedInResponse.parse(await answer.json())
  expect(body).toMatchObject({ user, token_type: 'Bearer', expires_in: 900 })
  expect(body.refresh_token).toMatch(/^[\w-]{43}$/)
  expect(body.refresh_token).not.toBe(refresh_token)
  const me = await t.app.request('/auth/me', { headers: { Authorization: `Bearer ${body.access_token}` } })
  expect(me.status).toBe(200)
})

test('a repeated refresh within 10 seconds returns the same new token, for a lost answer (A19)', async () => {
  const t = await makeApp()
  const { refresh_token } = await guest(t)
  const child = await refreshed(t, refresh_token)
  t.clock.advance(10)
  expect(await refreshed(t, refresh_token)).toBe(child)
  await refreshed(t, child)
})

test('reuse of a refresh token after 10 seconds revokes the whole family (A18)', async () => {
  const t = await makeApp()
  const { refresh_token } = await guest(t)
  const child = await refreshed(t, refresh_token)
  t.clock.advance(10.001)
  await expectRefused(t, refresh_token)
  await expectRefused(t, child)
})

test('reuse of a refresh token after its successor was used revokes the whole family, however soon (A18)', async () => {
  const t = await makeApp()
  const { refresh_token } = await guest(t)
  const child = await refreshed(t, refresh_token)
  const grandchild = await refreshed(t, child)
  await expectRefused(t, refresh_token)
  await expectRefused(t, child)
  await expectRefused(t, grandchild)
})

test('reuse of a refresh token leaves the user’s other families alone', async () => {
  const t = await makeApp()
  const account = { email: 'ada@example.com', password: 'correct horse' }
  const first = SignedInResponse.parse(await (await post(t.app, '/auth/register', account)).json())
  const second = SignedInResponse.parse(await (await post(t.app, '/auth/login', account)).json())
  await refreshed(t, first.refresh_token)
  t.clock.advance(11)
  await expectRefused(t, first.refresh_token)
  await refreshed(t, second.refresh_token)
})

test('no refresh token is stored in plaintext, in a table or in the files (A42)', async () => {
  const t = await makeAppOnFile()
  const { refresh_token } = await guest(t)
  const issued = [refresh_token]
  for (let i = 0; i < 3; i++) issued.push(await refreshed(t, issued.at(-1) ?? ''))
  const rows = t.raw.prepare<[], { hash: string }>('select hash from refresh_tokens').all()
  expect(rows).toHaveLength(issued.length)
  for (const { hash } of rows) expect(hash).toMatch(/^[0-9a-f]{64}$/)
  const files = Buffer.concat(readdirSync(t.folder).map((name) => readFileSync(join(t.folder, name))))
  expect(files.includes(rows[0]?.hash ?? 'no row')).toBe(true)
  for (const token of issued) {
    expect(files.includes(token)).toBe(false)
    expect(files.includes(Buffer.from(token, 'base64url'))).toBe(false)
  }
})

test('refresh token families survive a restart', async () => {
  const databaseUrl = await newDatabase({ lasts: true })
  const before = await makeApp({ databaseUrl })
  const { refresh_token } = await guest(before)
  const child = await refreshed(before, refresh_token)
  await before.store.close()
  const after = await makeApp({ databaseUrl })
  expect(await refreshed(after, refresh_token)).toBe(child)
  await refreshed(after, child)
})

test('an unused refresh token expires after 30 days (A20)', async () => {
  const t = await makeApp()
  const kept = await guest(t)
  const idle = await guest(t)
  t.clock.advance(30 * DAY_SECONDS - 1)
  await refreshed(t, kept.refresh_token)
  t.clock.advance(1)
  await expectRefused(t, idle.refresh_token)
})

test('a sign-in ends after 90 days, however often it is refreshed (A20)', async () => {
  const t = await makeAppOnFile()
  let { refresh_token } = await guest(t)
  for (let day = 0; day < 80; day += 20) {
    t.clock.advance(20 * DAY_SECONDS)
    refresh_token = await refreshed(t, refresh_token)
  }
  t.clock.advance(10 * DAY_SECONDS - 1)
  const last = await refreshed(t, refresh_token)
  t.clock.advance(1)
  await expectRefused(t, last)
  // Not even as the retry of a lost answer.
  await expectRefused(t, refresh_token)
  const longer = `select 1 from refresh_tokens t join refresh_families f on f.id = t.family_id and t.expires_at > f.expires_at`
  expect(t.raw.prepare(longer).all()).toEqual([])
})

test('an unknown refresh token is refused, and a missing one names its field', async () => {
  const t = await makeApp()
  await expectRefused(t, 'unknown')
  const answer = await post(t.app, '/auth/refresh', {})
  expect(answer.status).toBe(422)
  expect(Problem.parse(await answer.json()).errors?.[0]?.field).toBe('refresh_token')
})

test('access tokens and refresh tokens are not interchangeable', async () => {
  const t = await makeApp()
  const { access_token, refresh_token } = await guest(t)
  await expectRefused(t, access_token.slice(0, 512))
  const answer = await t.app.request('/auth/me', { headers: { Authorization: `Bearer ${refresh_token}` } })
  expect(answer.status).toBe(401)
})
