import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { apply, type Fact, openPresences, statusOf } from '../src/sessions/lifecycle.ts'
import type { SessionFacts } from '../src/store/sessions.ts'
import { onPostgres } from './database.ts'
import { reportDirectly } from './direct-sessions.ts'
import { callingScene } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'

const FEW = 60

describe('a client that opens and drops connections endlessly', () => {
  test('grows the store little, and leaves the session unchanged', async () => {
    const { s, pair, leg, report } = await callingScene()
    expect((await report()).status).toBe(201)
    for (let i = 0; i < 300; i++) {
      const dropped = { ...leg, participant: { ...leg.participant, sid: `PA_dropped${i}` } }
      expect((await postWebhook(s, webhookEvent('participant_connection_aborted', dropped))).status).toBe(200)
    }
    const known = await s.store.sessions.load(pair.sessionId)
    expect(known?.facts.presences.length).toBeLessThan(FEW)
    expect(known?.facts.presences.map(({ sid }) => sid)).toContain('PA_dropped299')
    s.clock.advance(11)
    expect((await report()).status).toBe(201)
  })

  test('cannot push its first join or its last leave out of the store', () => {
    const seen = (sid: string, at: number) => ({ sid, roomSid: 'RM_1', at, reason: '1' })
    const facts: Fact[] = [
      { kind: 'joined', ...seen('PA_first', 1000) },
      { kind: 'left', ...seen('PA_first', 2000), aborted: false },
      { kind: 'joined', ...seen('PA_last', 3000) },
      { kind: 'left', ...seen('PA_last', 4000), aborted: false },
    ]
    for (let i = 0; i < 300; i++) facts.push({ kind: 'left', ...seen(`PA_${i}`, 5000 + i), aborted: true })
    const nothing: SessionFacts = { tokenExpiresAt: 0, end: null, presences: [], finishedRooms: new Map() }
    const known = facts.reduce((before, fact) => apply(before, fact, { reconnectMs: 60_000 }), nothing)
    expect(known.presences.length).toBeLessThan(FEW)
    expect(known.presences.slice(0, 2)).toMatchObject([
      { sid: 'PA_first', joinedAt: 1000 },
      { sid: 'PA_last', leftAt: 4000 },
    ])
    expect(statusOf(known)).toBe('disconnected')
    expect(openPresences(known)).toEqual([])
  })
})

const Seqs = z.object({ events: z.array(z.object({ seq: z.number() })) })

test('large events are all returned, 256 KiB at a time', async () => {
  const { s, agent, user, pair } = await callingScene()
  for (let i = 0; i < 40; i++) {
    expect((await s.progress(agent.bearer, pair, {}, { text: 'x'.repeat(60_000) })).status).toBe(201)
  }
  const seqs: number[] = []
  let after = 0
  for (let hasMore = true; hasMore; ) {
    const text = await (await s.get(`/sessions/${pair.sessionId}/events?limit=1000&after=${after}`, user.bearer)).text()
    expect(text.length).toBeLessThan(280_000)
    const page = Seqs.extend({ after: z.number(), hasMore: z.boolean() }).parse(JSON.parse(text))
    seqs.push(...page.events.map(({ seq }) => seq))
    ;({ after, hasMore } = page)
  }
  expect(seqs).toEqual(Array.from({ length: 41 }, (_, i) => i + 1))

  const text = await (await s.context(agent.bearer, pair)).text()
  expect(text.length).toBeLessThan(280_000)
  const context = Seqs.extend({ cursor: z.number() }).parse(JSON.parse(text))
  expect(context.events.length).toBe(4)
  expect([context.events.at(-1)?.seq, context.cursor]).toEqual([41, 41])
})

// SQLite reads on the event loop; PostgreSQL's driver waits for the server.
if (!onPostgres())
  test('the event loop reads one large page per turn, or many small ones', async () => {
    const { s, pair, report } = await callingScene()
    expect((await report()).status).toBe(201)
    for (let i = 0; i < 6; i++) await reportDirectly(s, pair.sessionId, { filling: 'x'.repeat(60_000) })
    let turn = 0
    let isOver = false
    const count = () => {
      turn++
      if (!isOver) setImmediate(count)
    }
    setImmediate(count)
    const turnsOf = async (reads: Array<Promise<unknown>>) =>
      (await Promise.all(reads.map((read) => read.then(() => turn)))).map((at, _, [first = 0]) => at - first)
    const { events } = s.store
    const large = await turnsOf(Array.from({ length: 5 }, () => events.page(pair.sessionId, 0, 1000)))
    expect(large).toEqual([0, 1, 2, 3, 4])
    expect(await turnsOf(Array.from({ length: 3 }, () => events.last(pair.sessionId, 100)))).toEqual([0, 1, 2])
    expect(new Set(await turnsOf(Array.from({ length: 50 }, () => events.page(pair.sessionId, 0, 2))))).toEqual(
      new Set([0]),
    )
    isOver = true
  })
