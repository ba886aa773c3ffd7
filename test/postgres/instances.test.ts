import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createAgentAccounts } from '../../src/agent/accounts.ts'
import { newSigningKey } from '../../src/auth/keys.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import { closeLater, execute, newDatabase, withClient } from '../database.ts'
import { ADMISSION, directSessions, NO_LIMITS } from '../direct-sessions.ts'

const USER = 'user_1'
const HOUR_MS = 60 * 60_000

/** Two instances on one database, and a user in it. */
async function twoStores() {
  const url = await newDatabase()
  const open = async () => closeLater(await openStore(url, { poolSize: 6 }))
  const stores = [await open(), await open()] as const
  await stores[0].users.insertUser(guest(USER))
  return { url, stores, both: (index: number): Store => stores[index % 2 === 0 ? 0 : 1] }
}

const guest = (id: string) => ({ id, email: null, name: null, passwordHash: null, createdAt: 1 })

const newSession = (id: string) => ({
  id,
  userId: USER,
  room: `room-${id}`,
  createdAt: 1,
  tokenExpiresAt: 900_000,
  signInId: null,
  agentName: null,
  agentData: null,
  agentDeployment: null,
})

const times = <T>(count: number, make: (index: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, index) => make(index)))

test('two instances keep the limit of unused sessions together', async () => {
  const { stores, both } = await twoStores()
  const limits = { ...NO_LIMITS, maxSessions: 5, maxPending: 10 }
  const opened = await times(40, (i) => directSessions(both(i), { limits }).open(newSession(`sess_${10 + i}`)))
  expect(opened).toEqual(Array(40).fill(true))
  const all = await stores[0].sessions.listByUser(USER, 100)
  expect(all.filter(({ endedAt }) => endedAt === null)).toHaveLength(10)
  expect(all.filter(({ endReason }) => endReason === 'superseded')).toHaveLength(30)
})

test('two instances that open a user’s last allowed sessions at once do not open one too many', async () => {
  const { stores, both } = await twoStores()
  const limits = { ...NO_LIMITS, maxSessions: 5, maxPending: 3 }
  for (let round = 0; round < 10; round++) {
    const userId = `user_r${round}`
    await stores[0].users.insertUser(guest(userId))
    const open = (i: number) =>
      directSessions(both(i), { limits }).open({ ...newSession(`sess_${round}_${i}`), userId })
    await open(0)
    await open(1)
    await Promise.all([open(2), open(3)])
    const all = await stores[0].sessions.listByUser(userId, 100)
    expect(all.filter(({ endedAt }) => endedAt === null)).toHaveLength(3)
  }
})

test('two instances number one session’s events without a gap, and store each Idempotency-Key once', async () => {
  const { stores, both } = await twoStores()
  await directSessions(stores[0]).open(newSession('sess_1'))
  const askedAt = stores[0].clock.steady()
  await directSessions(stores[0]).observe(
    { session: 'sess_1' },
    { kind: 'answer', askedAt, present: ['PA_1'], joining: [] },
  )
  const known = await stores[0].sessions.load('sess_1')
  if (!known) throw new Error('There is no session')
  const seqs = await times(40, async (i) => {
    const key = { agentId: 'tutor', key: `key-${i % 20}`, payloadHash: 'x' }
    const report = { agentId: 'tutor', type: 'progress', data: { key: i % 20 }, key }
    const event = await directSessions(both(i + Math.floor(i / 20))).report(known, report, ADMISSION)
    return typeof event === 'string' ? event : event.seq
  })
  expect(seqs.slice(0, 20)).toEqual(seqs.slice(20))
  expect(new Set(seqs).size).toBe(20)
  const events = await stores[1].events.page('sess_1', 0, 100)
  expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: 21 }, (_, i) => i + 1))
})

test('a webhook that both instances receive counts once', async () => {
  const { stores, both } = await twoStores()
  await directSessions(stores[0]).open(newSession('sess_1'))
  const outcomes = await times(10, (i) =>
    both(i).sessions.changeOnce({ id: 'EV_1', receivedAt: 1 }, { session: 'sess_1' }, () => ({ result: i })),
  )
  expect(outcomes.filter((outcome) => outcome !== null)).toHaveLength(1)
})

test('a refresh token that both instances get at once is used once', async () => {
  const { stores, both } = await twoStores()
  const now = stores[0].clock.latest()
  const expiresAt = now + HOUR_MS
  const family = { id: 'fam_1', userId: USER, expiresAt, first: { hash: 't0', expiresAt } }
  expect(await stores[0].users.insertFamily(family, null, now)).toBe(true)
  const limits = { idleMs: HOUR_MS, graceMs: 10_000 }
  for (let i = 0; i < 10; i++) {
    const rotations = await times(6, (instance) => both(instance).users.rotate(`t${i}`, `t${i + 1}`, now, limits))
    const outcomes = rotations.map(({ outcome }) => outcome).sort()
    expect(outcomes).toEqual([...Array(5).fill('repeated'), 'rotated'])
  }
  expect(await stores[1].users.rotate('t3', 't4', now, limits)).toMatchObject({ outcome: 'reused' })
  expect(await stores[0].users.isSignedIn('fam_1', USER, now)).toBe(false)
})

test('instances that start together agree on one signing key, one secret and one first agent', async () => {
  const { stores, both } = await twoStores()
  const keys = await times(6, newSigningKey)
  await Promise.all(keys.map((key, i) => both(i).keys.addFirstSigningKey(key)))
  expect(await stores[0].keys.signingKeys()).toHaveLength(1)
  const secrets = await times(6, (i) => both(i).keys.secret('refresh', () => `secret-${i}`, i))
  expect(new Set(secrets).size).toBe(1)
  const first = await times(6, (i) => createAgentAccounts(both(i)).createFirst(`first-${i}`))
  expect(first.filter(Boolean)).toHaveLength(1)
})

test('of guests who take the same e-mail at once, one gets it', async () => {
  const { stores, both } = await twoStores()
  await times(6, (i) => stores[0].users.insertUser(guest(`user_g${i}`)))
  const account = { email: 'ada@example.com', name: null, passwordHash: 'x' }
  const outcomes = await times(6, (i) => both(i).users.upgradeGuest({ id: `user_g${i}`, ...account }, 1))
  expect(outcomes.sort()).toEqual([...Array(5).fill('email_taken'), 'upgraded'])
})

test('an event wakes the streams of the other instance', async () => {
  const { stores } = await twoStores()
  await directSessions(stores[0]).open(newSession('sess_1'))
  const heard = new Promise<boolean>((resolve) => {
    onTestFinished(stores[1].events.subscribe('sess_1', () => resolve(true)))
  })
  // Until the other instance listens, hints are lost: each of these changes the status, which is an event.
  for (let i = 0; i < 50; i++) {
    const sid = `PA_${Math.floor(i / 2)}`
    await directSessions(stores[0]).observe(
      { session: 'sess_1' },
      i % 2 === 0
        ? { kind: 'joined', sid, roomSid: 'RM_1', at: i }
        : { kind: 'left', sid, roomSid: 'RM_1', at: i, reason: 'CLIENT_INITIATED', aborted: false },
    )
    if (await Promise.race([heard, delay(200, false)])) return
  }
  throw new Error('The other instance heard nothing')
})

test('instances agree on the time, and no step of the database’s clock makes old evidence look fresh', async () => {
  const { url } = await twoStores()
  // The database's time in the test's hands: a function of the same name, found before the system's.
  const shift = (seconds: number) =>
    execute(
      url,
      `create schema if not exists fake; create or replace function fake.clock_timestamp() returns timestamptz
        language sql volatile as $$ select pg_catalog.clock_timestamp() + interval '${seconds} seconds' $$`,
    )
  await shift(0)
  // By their name instances find each other, whatever it is.
  const faked = `${url}?application_name=own&options=${encodeURIComponent('-c search_path=fake,pg_catalog,public')}`
  const first = closeLater(await openStore(faked))
  const startedAt = first.clock.steady()
  // What it asks LiveKit itself counts at once.
  expect(first.clock.fresh(5000).since).toBeLessThanOrEqual(startedAt)
  for (const seconds of [-3600, 7200, -60, 0]) {
    await shift(seconds)
    await first.saveClock()
    const second = closeLater(await openStore(faked))
    const steady = first.clock.steady()
    expect(Math.abs(second.clock.steady() - steady)).toBeLessThan(1000)
    expect(steady - startedAt).toBeLessThan(60_000)
    expect(steady).toBeGreaterThanOrEqual(startedAt)
    expect(Math.abs(first.clock.now() - (Date.now() + seconds * 1000))).toBeLessThan(1000)
    expect(second.clock.latest()).toBeGreaterThanOrEqual(first.clock.latest() - 1000)
  }
  await withClient(url, async (client) => {
    const stored = async () => (await client.query('select now, steady, latest from clock')).rows
    expect(Number((await stored())[0].steady)).toBeLessThanOrEqual(first.clock.steady() + 1000)
    await shift(7200)
    // A command only reads.
    const before = await stored()
    const command = closeLater(await openStore(faked, { keepsTime: false }))
    await command.saveClock()
    expect(await stored()).toEqual(before)
    // An instance that starts just after the step waits until another one has corrected it.
    const { rows } = await client.query('select pg_catalog.clock_timestamp() as now')
    const opening = openStore(faked)
    await vi.waitFor(async () => {
      const reading = `select from pg_stat_activity where backend_start > $1 and query ~ 'from compared|areConnected' and pid <> pg_backend_pid()`
      expect((await client.query(reading, [rows[0].now])).rows.length).toBeGreaterThan(0)
    })
    await first.saveClock()
    const third = closeLater(await opening)
    expect(Math.abs(third.clock.steady() - first.clock.steady())).toBeLessThan(1000)
    expect(first.clock.steady() - startedAt).toBeLessThan(60_000)
  })
})
