import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Column, getTableColumns } from 'drizzle-orm'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { apply, type Fact, openPresences, statusOf } from '../src/sessions/lifecycle.ts'
import type { SessionFacts, Which } from '../src/store/sessions.ts'
import * as schema from '../src/store/sqlite/schema.ts'
import { openStore, type Store } from '../src/store/store.ts'
import { closeLater, newDatabase, onPostgres } from './database.ts'
import { ADMISSION, directSessions, NO_LIMITS } from './direct-sessions.ts'
import { inAnotherOrder, renumbered, type WebhookFact, webhookFact } from './lifecycle-facts.ts'

const rules = { reconnectMs: 60_000 }
const USER = 'user_1'
const EXPIRES_AT = 900_000

/** A store of its own with one user in it, and pending sessions of that user, each in its own room. */
async function setUp() {
  const store = closeLater(await openStore(await newDatabase(), { poolSize: 4 }))
  const sessions = directSessions(store, { rules })
  await store.users.insertUser({ id: USER, email: null, name: null, passwordHash: null, createdAt: 1 })
  let count = 0
  const newSession = (limits = NO_LIMITS) => {
    count += 1
    // Ids rise with time, as real ones do.
    const id = `sess_${String(count).padStart(6, '0')}`
    const session = { id, userId: USER, room: `room-${count}`, createdAt: count, tokenExpiresAt: EXPIRES_AT }
    const opening = directSessions(store, { limits }).open({
      ...session,
      signInId: null,
      agentName: null,
      agentData: null,
      agentDeployment: null,
    })
    return { id, room: session.room, opening }
  }
  const opened = async () => {
    const { opening, ...session } = newSession()
    await opening
    return session
  }
  return { store, sessions, newSession, opened }
}

type Opened = Awaited<ReturnType<Awaited<ReturnType<typeof setUp>>['opened']>>

/** Sids are unique in LiveKit, so each session's facts have their own sids. */
const ownSids = <F extends WebhookFact>(fact: F, { id }: Opened): F => ({
  ...fact,
  roomSid: `${fact.roomSid}/${id}`,
  ...('sid' in fact ? { sid: `${fact.sid}/${id}` } : {}),
})

/**
 * Delivers the facts as webhooks, one after the other or all in one turn. They are decided on the session as it was before
 * the first of them, as if they had all been received then.
 */
async function deliver(store: Store, session: Opened, facts: readonly WebhookFact[], together = false) {
  const known = await loaded(store, session)
  const deliveries: Array<() => Promise<unknown>> = facts.map((fact, index) => () => {
    const which: Which = fact.kind === 'room_finished' ? { unfinishedIn: session.room } : { known }
    const webhook = { id: `EV_${session.id}_${index}`, receivedAt: fact.at }
    return directSessions(store, { rules }).receive(webhook, which, ownSids(fact, session))
  })
  if (together) await Promise.all(deliveries.map((deliverOne) => deliverOne()))
  else for (const deliverOne of deliveries) await deliverOne()
}

async function loaded({ sessions }: Store, { id }: Pick<Opened, 'id'>) {
  const found = await sessions.load(id)
  if (!found) throw new Error(`There is no session ${id}`)
  return found
}

async function outcomeOf(store: Store, session: Opened) {
  const found = await loaded(store, session)
  const open = openPresences(found.facts).map(({ sid }) => sid.split('/')[0])
  return { status: found.session.status, open: open.sort() }
}

function modelled(facts: readonly Fact[]) {
  const nothing: SessionFacts = { tokenExpiresAt: EXPIRES_AT, end: null, presences: [], finishedRooms: new Map() }
  const known = facts.reduce((before, fact) => apply(before, fact, rules), nothing)
  const open = openPresences(known).map(({ sid }) => sid)
  return { status: statusOf(known), open: open.sort() }
}

/** The stored status events, checked to be numbered without a gap and to differ from one to the next. */
async function statusesOf({ events }: Store, { id }: Opened) {
  const stored = await events.page(id, 0, 1000)
  expect(stored.map(({ seq }) => seq)).toEqual(stored.map((_, index) => index + 1))
  expect(stored.every(({ type, agentId }) => type === 'session.status' && agentId === null)).toBe(true)
  const statuses = stored.map(({ data }) => (data as { status: string }).status)
  expect(statuses.every((status, index) => status !== (statuses[index - 1] ?? 'pending'))).toBe(true)
  return statuses
}

describe('webhook facts in the store', () => {
  const history = fc
    .array(webhookFact, { minLength: 1, maxLength: 12 })
    .chain((facts) => fc.record({ facts: fc.constant(facts), again: inAnotherOrder(facts) }))

  test('lead to the state of the pure rules in any order and repetition, alone or in one group', async () => {
    const { store, opened } = await setUp()
    await fc.assert(
      fc.asyncProperty(history, fc.boolean(), async ({ facts, again }, together) => {
        const expected = modelled(facts)
        for (const order of [facts, again, renumbered(again)]) {
          const session = await opened()
          await deliver(store, session, order, together)
          expect(await outcomeOf(store, session)).toEqual(expected)
          const statuses = await statusesOf(store, session)
          expect(statuses.at(-1) ?? 'pending').toBe(expected.status)
        }
      }),
      { numRuns: onPostgres() ? 40 : 150 },
    )
  }, 30_000)

  test('count once per id, also when both copies arrive in one turn', async () => {
    const { store, sessions, opened } = await setUp()
    const { id } = await opened()
    const deliverOne = (sid: string) =>
      sessions.receive(
        { id: 'EV_1', receivedAt: 10 },
        { session: id },
        { kind: 'joined', sid, roomSid: 'RM_1', at: 10 },
      )
    await Promise.all([deliverOne('PA_1'), deliverOne('PA_2')])
    await deliverOne('PA_3')
    expect((await store.sessions.load(id))?.facts.presences.map(({ sid }) => sid)).toEqual(['PA_1'])
  })

  test('of a finished room affect every session in it, and no other', async () => {
    const { store, sessions, newSession } = await setUp()
    const [first, second] = [newSession(), newSession()]
    await Promise.all([first.opening, second.opening])
    const room = { room: 'shared', userId: USER, createdAt: 1, tokenExpiresAt: EXPIRES_AT }
    const shared = ['sess_a', 'sess_b']
    for (const id of shared)
      await sessions.open({ ...room, id, signInId: null, agentName: null, agentData: null, agentDeployment: null })
    for (const id of [...shared, first.id]) {
      const roomSid = shared.includes(id) ? 'RM_S' : 'RM_1'
      await sessions.observe({ session: id }, { kind: 'joined', sid: `PA_${id}`, roomSid, at: 10 })
    }
    const finished = { kind: 'room_finished', roomSid: 'RM_S', at: 20 } as const
    await sessions.receive({ id: 'EV_1', receivedAt: 20 }, { unfinishedIn: 'shared' }, finished)
    for (const id of shared) expect((await store.sessions.find(id))?.status).toBe('disconnected')
    expect((await store.sessions.find(first.id))?.status).toBe('live')
  })
})

describe('answers from LiveKit in the store', () => {
  test('lead to the state of the pure rules, also when decided on older facts', async () => {
    const { store, sessions, opened } = await setUp()
    const answer = fc.record({
      kind: fc.constant('answer' as const),
      askedAt: fc.integer({ min: 1, max: 2_000_000 }),
      present: fc.subarray(['PA_1', 'PA_2']),
      joining: fc.subarray(['PA_3']),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(webhookFact, answer), { maxLength: 12 }), async (facts) => {
        const session = await opened()
        const known = await loaded(store, session)
        const own = (sids: string[]) => sids.map((sid) => `${sid}/${session.id}`)
        for (const fact of facts) {
          if (fact.kind === 'answer') {
            const answer = { ...fact, present: own(fact.present), joining: own(fact.joining) }
            await sessions.observe({ known }, answer)
          } else await sessions.observe({ known }, ownSids(fact, session))
        }
        const { status } = await outcomeOf(store, session)
        const last = (await statusesOf(store, session)).at(-1) ?? 'pending'
        expect(last).toBe(status)
        expect(await outcomeOf(store, session)).toEqual(modelled(facts))
      }),
      { numRuns: onPostgres() ? 100 : 200 },
    )
  }, 30_000)
})

describe('simultaneous session writes', () => {
  test('keep the limit of unused sessions, and end the oldest as superseded', async () => {
    const { store, newSession } = await setUp()
    const openings = Array.from({ length: 30 }, () => newSession({ ...NO_LIMITS, maxSessions: 5, maxPending: 10 }))
    await Promise.all(openings.map(({ opening }) => opening))
    const unfinished = await store.sessions.listUnfinished()
    expect(unfinished).toHaveLength(10)
    const all = await store.sessions.listByUser(USER, 100)
    const ended = all.filter(({ status }) => status === 'ended')
    expect(ended).toHaveLength(20)
    for (const session of ended) expect(session).toMatchObject({ endReason: 'superseded' })
  })

  test('end a session once', async () => {
    const { store, sessions, opened } = await setUp()
    const session = await opened()
    const reasons = ['user', 'agent', 'superseded'] as const
    const ended = await Promise.all(reasons.map((reason) => sessions.end(session.id, reason)))
    const [reason] = ended.map((one) => one?.endReason)
    expect(reasons).toContain(reason)
    expect(ended.map((one) => one?.endReason)).toEqual([reason, reason, reason])
    expect(await statusesOf(store, session)).toEqual(['ended'])
  })

  test('number status changes and agent events in one rising sequence, also when decided on older facts', async () => {
    const { store, sessions, opened } = await setUp()
    const session = await opened()
    await store.agents.insertAgent({
      id: 'tutor',
      secretHash: '0'.repeat(64),
      sealedSecret: null,
      oldSecretHash: null,
      oldSealedSecret: null,
      oldSecretUntil: null,
      scopes: [],
      generation: 1,
      createdAt: 1,
      disabledAt: null,
      summon: 'any',
    })
    const askedAt = store.clock.steady()
    await sessions.observe({ session: session.id }, { kind: 'answer', askedAt, present: ['PA_1'], joining: [] })
    const known = await loaded(store, session)
    const report = { agentId: 'tutor', type: 'progress', data: {}, key: null }
    const stored = await Promise.all(Array.from({ length: 50 }, () => sessions.report(known, report, ADMISSION)))
    // Which of them comes first is not promised.
    const given = stored.map((event) => (typeof event === 'string' ? event : event.seq))
    expect(given.sort((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: 50 }, (_, i) => i + 2))
    const seqs = (await store.events.page(session.id, 0, 100)).map(({ seq }) => seq)
    expect(seqs).toEqual(Array.from({ length: 51 }, (_, i) => i + 1))
    await sessions.end(session.id, 'user')
    expect(await sessions.report(known, report, ADMISSION)).toBe('ended')
  })

  test('are decided again on what is stored unless they change what was loaded', async () => {
    const { store, sessions, opened } = await setUp()
    const session = await opened()
    const known = await loaded(store, session)
    await sessions.end(session.id, 'user')
    const webhook = { id: 'EV_1', receivedAt: 10 }
    const seen = await store.sessions.changeOnce(webhook, { known }, ([now]) => ({ changed: [], result: now?.session }))
    expect(seen?.status).toBe('ended')
  })

  test('fail individually on a constraint violation', async () => {
    const { store, sessions, newSession, opened } = await setUp()
    const known = await opened()
    const again = {
      ...known,
      userId: USER,
      signInId: null,
      createdAt: 1,
      tokenExpiresAt: 1,
      agentName: null,
      agentData: null,
      agentDeployment: null,
    }
    const next = newSession()
    const outcomes = await Promise.allSettled([
      sessions.observe({ session: known.id }, { kind: 'joined', sid: 'PA_1', roomSid: 'RM_1', at: 1 }),
      sessions.open(again),
      next.opening,
    ])
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect((await store.sessions.find(known.id))?.status).toBe('live')
    expect((await store.sessions.find(next.id))?.status).toBe('pending')
  })
})

test('ended sessions do not slow down reads of the unfinished ones', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-test-'))
  const file = join(folder, 'behalf.db')
  const store = await openStore(`file:${file}`)
  onTestFinished(async () => {
    await store.close()
    await rm(folder, { recursive: true })
  })
  await store.users.insertUser({ id: USER, email: null, name: null, passwordHash: null, createdAt: 1 })
  const reads = [
    () => store.sessions.listUnfinished(),
    () => store.sessions.listUnfinished('room'),
    () => store.sessions.change({ unfinishedOf: USER }, () => ({ result: undefined })),
  ]
  /** The shortest of many runs, which other work on the machine does not lengthen. */
  const durations = async () => {
    const shortest = reads.map(() => Number.POSITIVE_INFINITY)
    for (let i = 0; i < 30; i++) {
      for (const [index, read] of reads.entries()) {
        const startedAt = performance.now()
        await read()
        shortest[index] = Math.min(shortest[index] ?? 0, performance.now() - startedAt)
      }
    }
    return shortest
  }
  const before = await durations()
  const raw = new Database(file)
  raw.exec(`insert into sessions (id, user_id, room, status, created_at, token_expires_at, ended_at)
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
    select 'sess_' || i, '${USER}', 'room', 'ended', i, i, i from n`)
  raw.close()
  const after = await durations()
  for (const [index, duration] of after.entries()) expect(duration).toBeLessThan(5 * (before[index] ?? 0) + 1)
})

test('no column of SQLite’s schema maps the values that it stores: prepared statements leave them as they are', () => {
  const columns = Object.values(schema).flatMap((table) => Object.values(getTableColumns(table)))
  expect(columns.length).toBeGreaterThan(100)
  for (const { name, mapToDriverValue, mapFromDriverValue } of columns) {
    expect(mapToDriverValue, name).toBe(Column.prototype.mapToDriverValue)
    expect(mapFromDriverValue, name).toBe(Column.prototype.mapFromDriverValue)
  }
})
