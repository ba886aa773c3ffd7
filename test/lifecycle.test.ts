import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { apply, type Fact, isConfirmed, openPresences, statusOf } from '../src/sessions/lifecycle.ts'
import type { SessionFacts } from '../src/store/sessions.ts'
import { inAnotherOrder, renumbered, webhookFact } from './lifecycle-facts.ts'

const RULES = { reconnectMs: 60_000 }
const EXPIRES_AT = 900_000
const NOTHING: SessionFacts = { tokenExpiresAt: EXPIRES_AT, end: null, presences: [], finishedRooms: new Map() }

const factsAfter = (facts: readonly Fact[], from = NOTHING) =>
  facts.reduce((known, fact) => apply(known, fact, RULES), from)
const openSids = (facts: SessionFacts) =>
  openPresences(facts)
    .map(({ sid }) => sid)
    .sort()
const outcome = (facts: SessionFacts) => ({ status: statusOf(facts), open: openSids(facts) })

const joined = (sid: string, at: number): Fact => ({ kind: 'joined', sid, roomSid: 'RM_1', at })
const left = (sid: string, at: number): Fact => ({
  kind: 'left',
  sid,
  roomSid: 'RM_1',
  at,
  reason: '1',
  aborted: false,
})
const aborted = (sid: string, at: number): Fact => ({ ...left(sid, at), aborted: true }) as Fact
const finished = (at: number): Fact => ({ kind: 'room_finished', roomSid: 'RM_1', at })
const listed = (askedAt: number, ...present: string[]): Fact => ({ kind: 'answer', askedAt, present, joining: [] })
const absent = (askedAt: number): Fact => listed(askedAt)

test.each([
  ['before `since`', 999, false],
  ['at `since`', 1000, true],
  ['at `until`', 2000, true],
  ['after `until`, by a clock that is ahead of this one', 2001, false],
])('a confirmation %s is fresh: %s %s', (_, askedAt, isFresh) => {
  const facts = factsAfter([joined('PA_1', 1), listed(askedAt, 'PA_1')])
  expect(isConfirmed(facts, { since: 1000, until: 2000 })).toBe(isFresh)
})

describe('webhook facts', () => {
  test('lead to the same state in any order and with any repetition', () => {
    const history = fc
      .array(webhookFact, { maxLength: 16 })
      .chain((facts) => fc.record({ facts: fc.constant(facts), again: inAnotherOrder(facts) }))
    fc.assert(
      fc.property(history, ({ facts, again }) => {
        const expected = outcome(factsAfter(facts))
        expect(outcome(factsAfter(again))).toEqual(expected)
        // Their time is that of their arrival, so it is another one in another order.
        expect(outcome(factsAfter(renumbered(again)))).toEqual(expected)
      }),
      { numRuns: 1000 },
    )
  })

  test('make a session live exactly while a joined sid has neither left nor lost its room', () => {
    fc.assert(
      fc.property(fc.array(webhookFact, { maxLength: 16 }), (facts) => {
        const sidsOf = (kind: 'joined' | 'left') => facts.flatMap((f) => (f.kind === kind ? [f.sid] : []))
        const gone = new Set(sidsOf('left'))
        const finishedRooms = new Set(facts.flatMap((f) => (f.kind === 'room_finished' ? [f.roomSid] : [])))
        const stay = facts.flatMap((f) => (f.kind === 'joined' && !finishedRooms.has(f.roomSid) ? [f.sid] : []))
        const open = new Set(stay.filter((sid) => !gone.has(sid)))
        const everJoined = facts.some((f) => f.kind === 'joined' || (f.kind === 'left' && !f.aborted))
        const status = open.size > 0 ? 'live' : everJoined ? 'disconnected' : 'pending'
        expect(outcome(factsAfter(facts))).toEqual({ status, open: [...open].sort() })
      }),
      { numRuns: 1000 },
    )
  })

  test('of an old sid never close a newer connection', () => {
    const ofOldSids = webhookFact.filter((fact) => fact.kind !== 'room_finished')
    fc.assert(
      fc.property(fc.array(ofOldSids), fc.array(ofOldSids), (before, later) => {
        const facts = factsAfter([...before, joined('PA_newer', 5000), ...later])
        expect(statusOf(facts)).toBe('live')
        expect(openSids(facts)).toContain('PA_newer')
      }),
    )
  })

  test('of a leave cancel the same sid’s late join', () => {
    expect(outcome(factsAfter([left('PA_1', 20), joined('PA_1', 30)]))).toEqual({ status: 'disconnected', open: [] })
    expect(outcome(factsAfter([left('PA_1', 20)])).status).toBe('disconnected')
  })

  test('of an aborted connection do not count as a join', () => {
    expect(statusOf(factsAfter([aborted('PA_1', 20)]))).toBe('pending')
    expect(statusOf(factsAfter([aborted('PA_1', 20), joined('PA_1', 30)]))).toBe('disconnected')
  })

  test('of a finished room do not end the session', () => {
    const facts = factsAfter([joined('PA_1', 10), finished(20)])
    expect(facts.end).toBeNull()
    expect(statusOf(facts)).toBe('disconnected')
    expect(statusOf(factsAfter([joined('PA_1', 10), { kind: 'room_finished', roomSid: 'RM_2', at: 20 }]))).toBe('live')
  })

  test('do not confirm presence', () => {
    const [presence] = factsAfter([joined('PA_1', 10)]).presences
    expect(presence?.confirmedAt).toBeNull()
  })
})

describe('answers from LiveKit', () => {
  test('count once, however often they are repeated', () => {
    const fact = fc.oneof(
      webhookFact,
      fc.nat(2_000_000).map((at) => absent(at)),
      fc.nat(2_000_000).map((at) => listed(at, 'PA_1')),
    )
    fc.assert(
      fc.property(fc.array(fact), (facts) => {
        expect(outcome(factsAfter(facts.flatMap((one) => [one, one])))).toEqual(outcome(factsAfter(facts)))
      }),
    )
  })

  test('that omit a presence mark it missing, and the second one closes it', () => {
    const once = factsAfter([joined('PA_1', 10), absent(20)])
    expect(once.presences[0]).toMatchObject({ misses: 1, missedAt: 20 })
    expect(statusOf(once)).toBe('live')
    expect(statusOf(factsAfter([absent(30)], once))).toBe('disconnected')
  })

  test('that list a missing presence restore it, before and after it was closed', () => {
    const once = factsAfter([joined('PA_1', 10), absent(20), listed(30, 'PA_1'), absent(40)])
    expect(statusOf(once)).toBe('live')
    const closed = factsAfter([absent(50)], once)
    expect(statusOf(closed)).toBe('disconnected')
    expect(statusOf(factsAfter([listed(60, 'PA_1')], closed))).toBe('live')
  })

  test('never restore a presence that a webhook closed', () => {
    expect(statusOf(factsAfter([joined('PA_1', 10), left('PA_1', 20), listed(30, 'PA_1')]))).toBe('disconnected')
  })

  test('older than other evidence change nothing', () => {
    const facts = factsAfter([joined('PA_1', 100)])
    expect(factsAfter([absent(90), absent(95), absent(100)], facts)).toEqual(facts)
    const missed = factsAfter([absent(300)], facts)
    expect(factsAfter([absent(200), absent(250)], missed)).toEqual(missed)
    const closed = factsAfter([absent(400)], missed)
    expect(statusOf(factsAfter([listed(350, 'PA_1')], closed))).toBe('disconnected')
  })

  test('alone confirm presence, as of the start of the newest request', () => {
    const facts = factsAfter([joined('PA_1', 10), listed(30, 'PA_1'), listed(20, 'PA_1')])
    expect(facts.presences[0]).toMatchObject({ confirmedAt: 30, joinedAt: 10 })
    expect(outcome(factsAfter([listed(30, 'PA_1')]))).toEqual({ status: 'live', open: ['PA_1'] })
  })

  test('that show a user as still joining do not count as presence', () => {
    expect(statusOf(factsAfter([{ kind: 'answer', askedAt: 20, present: [], joining: ['PA_1'] }]))).toBe('pending')
  })
})

describe('the end of a session', () => {
  const leftAt20 = factsAfter([joined('PA_1', 10), left('PA_1', 20)])

  test('is final', () => {
    fc.assert(
      fc.property(fc.array(webhookFact), fc.array(webhookFact), (before, later) => {
        const end: Fact = { kind: 'end', reason: 'user', at: 5000 }
        const ended = factsAfter([...before, end])
        expect(statusOf(ended)).toBe('ended')
        const more = [...later, absent(9_000_000), listed(9_000_000, 'PA_1'), { ...end, reason: 'agent' } as Fact]
        expect(factsAfter(more, ended)).toBe(ended)
      }),
    )
  })

  test('by reconciliation needs an absence observed after the time to reconnect', () => {
    expect(factsAfter([absent(20 + 59_999)], leftAt20).end).toBeNull()
    expect(factsAfter([absent(20 + 60_000)], leftAt20).end).toBe('left')
  })

  test('by reconciliation does not happen to a user who rejoined', () => {
    expect(factsAfter([joined('PA_2', 30), absent(500_000)], leftAt20).end).toBeNull()
    expect(factsAfter([listed(500_000, 'PA_2')], leftAt20).end).toBeNull()
    expect(factsAfter([{ kind: 'answer', askedAt: 500_000, present: [], joining: ['PA_2'] }], leftAt20).end).toBeNull()
  })

  test('that was never joined waits for the token’s expiry and LiveKit’s leeway', () => {
    expect(factsAfter([absent(EXPIRES_AT + 59_999)]).end).toBeNull()
    expect(factsAfter([absent(EXPIRES_AT + 60_000)]).end).toBe('never_joined')
    expect(factsAfter([{ kind: 'answer', askedAt: EXPIRES_AT * 2, present: [], joining: ['PA_1'] }]).end).toBeNull()
  })
})
