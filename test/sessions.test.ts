import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { EventResponse, SessionResponse } from '../src/sessions/json.ts'
import { type Scene, type SignedIn, scene } from './scene.ts'
import { mint, refusedFields } from './token-client.ts'

const SessionPage = z.strictObject({
  sessions: z.array(z.strictObject(SessionResponse.shape)),
  before: z.string().optional(),
})
const EventPage = z.strictObject({ events: z.array(EventResponse), after: z.number(), hasMore: z.boolean() })

const list = async ({ get }: Scene, { bearer }: SignedIn, query = '') =>
  SessionPage.parse(await (await get(`/sessions${query}`, bearer)).json())
const page = async ({ get }: Scene, { bearer }: SignedIn, id: string, query = '') =>
  EventPage.parse(await (await get(`/sessions/${id}/events${query}`, bearer)).json())
const remove = ({ app }: Scene, { bearer }: SignedIn, id: string) =>
  app.request(`/sessions/${id}`, { method: 'DELETE', headers: { Authorization: `Bearer ${bearer}` } })

/** A user with that many sessions, a second apart; ids oldest first. */
async function withSessions(count: number) {
  const s = await scene()
  const user = await s.newUser()
  const ids: string[] = []
  for (let i = 0; i < count; i++) {
    s.clock.advance(1)
    ids.push((await s.newSession(user)).pair.sessionId)
  }
  return { s, user, ids }
}

describe('GET /sessions', () => {
  test('pages through the user’s sessions, newest first', async () => {
    const { s, user, ids } = await withSessions(7)
    // Ended ones and others, in turn.
    for (const id of ids.filter((_, i) => i % 3 === 0)) expect((await remove(s, user, id)).status).toBe(200)
    const newest = ids.toReversed()
    const seen: string[] = []
    let before: string | undefined
    for (const size of [3, 3, 1]) {
      const found = await list(s, user, `?limit=3${before ? `&before=${before}` : ''}`)
      expect(found.sessions).toHaveLength(size)
      seen.push(...found.sessions.map(({ id }) => id))
      before = found.before
    }
    expect(seen).toEqual(newest)
    expect(before).toBeUndefined()
    expect((await list(s, user)).sessions.map(({ id }) => id)).toEqual(newest)
    expect(await list(s, user, `?limit=7`)).not.toHaveProperty('before')
  })

  test('is empty for another user, even with a foreign cursor', async () => {
    const { s, ids } = await withSessions(2)
    const eve = await s.newUser()
    expect(await list(s, eve)).toEqual({ sessions: [] })
    expect(await list(s, eve, `?before=${ids[1]}`)).toEqual({ sessions: [] })
  })

  test('shows each session’s state', async () => {
    const s = await scene()
    const { user, pair, room } = await s.present()
    const createdAt = new Date(s.clock.now()).toISOString()
    await s.reconcile()
    const session = { id: pair.sessionId, userId: user.id, room, status: 'live', createdAt }
    expect((await list(s, user)).sessions).toEqual([session])
    s.clock.advance(5)
    await remove(s, user, pair.sessionId)
    const endedAt = new Date(s.clock.now()).toISOString()
    const ended = { ...session, status: 'ended', endedAt, endReason: 'user' }
    expect((await list(s, user)).sessions).toEqual([ended])
    expect(await (await s.get(`/sessions/${pair.sessionId}`, user.bearer)).json()).toEqual(ended)
    await s.background.idle()
  })

  test.each(['?limit=0', '?limit=101', '?limit=x', '?limit=1.5', `?before=${'s'.repeat(129)}`])(
    'refuses %s',
    async (query) => {
      const s = await scene()
      const { bearer } = await s.newUser()
      const field = query.slice(1).split('=')[0]
      const refused = { status: 422, code: 'validation_failed', fields: [field] }
      expect(await refusedFields(s.get(`/sessions${query}`, bearer))).toEqual(refused)
    },
  )
})

describe('DELETE /sessions/{id}', () => {
  test('ends the session once, and answers the same again', async () => {
    const s = await scene()
    const { user, pair, room } = await s.present()
    await s.reconcile()
    const first = await remove(s, user, pair.sessionId)
    expect(first.status).toBe(200)
    const ended = await first.json()
    expect(ended).toMatchObject({ status: 'ended', endReason: 'user' })
    await s.background.idle()
    expect(s.sfu.rooms.has(room)).toBe(false)
    s.clock.advance(60)
    const again = await remove(s, user, pair.sessionId)
    expect(again.status).toBe(200)
    expect(await again.json()).toEqual(ended)
    const { events } = await page(s, user, pair.sessionId)
    expect(events.map(({ data }) => data)).toEqual([{ status: 'live' }, { status: 'ended', reason: 'user' }])
  })

  test('succeeds while LiveKit is down, and the participant is removed afterwards', async () => {
    const s = await scene()
    const { user, pair, room } = await s.present()
    s.sfu.mode = 'reset'
    expect((await remove(s, user, pair.sessionId)).status).toBe(200)
    await s.background.idle()
    expect(s.sfu.rooms.has(room)).toBe(true)
    s.sfu.mode = 'ok'
    s.clock.advance(20)
    expect(await s.reconcile()).toBe(true)
    expect(s.sfu.rooms.has(room)).toBe(false)
    expect(await s.store.sessions.listToRemove()).toEqual([])
  })

  test('leaves a newer session in the room with the same identity alone', async () => {
    const s = await scene()
    const { user, pair, room } = await s.present()
    const newer = await s.newSession(user, { room })
    const leg = s.sfu.join(newer.joinToken)
    await s.reconcile()
    await remove(s, user, pair.sessionId)
    await s.background.idle()
    expect(s.sfu.rooms.get(room)?.participants.get(user.id)?.sid).toBe(leg.participant.sid)
    expect((await s.sessionOf(user, newer.pair)).status).toBe('live')
  })

  test('also removes a second leg, in any state', async () => {
    const s = await scene()
    const { user, pair, room, joinToken } = await s.present()
    await s.newSession(user, { room })
    s.sfu.join(joinToken, { identity: `${user.id}#x`, state: 'JOINING' })
    s.sfu.enter(room, { identity: 'somebody', attributes: { sessionId: 'another' } })
    await remove(s, user, pair.sessionId)
    await s.background.idle()
    expect([...(s.sfu.rooms.get(room)?.participants.keys() ?? [])]).toEqual(['somebody'])
  })
})

describe('GET /sessions/{id}/events', () => {
  /** A live session with one status event and that many of an agent. */
  async function withProgress(count: number) {
    const s = await scene()
    const { user, pair } = await s.present()
    const { bearer } = await s.newAgent()
    for (let i = 1; i <= count; i++) expect((await s.progress(bearer, pair, {}, { step: i })).status).toBe(201)
    return { s, user, id: pair.sessionId }
  }

  test('pages by "after", oldest first, each event once', async () => {
    const { s, user, id } = await withProgress(6)
    let after = 0
    const seqs: number[] = []
    const pages: Array<[number, boolean]> = []
    do {
      const found = await page(s, user, id, `?after=${after}&limit=3`)
      seqs.push(...found.events.map(({ seq }) => seq))
      pages.push([found.events.length, found.hasMore])
      after = found.after
    } while (pages.at(-1)?.[1])
    expect(seqs).toEqual([1, 2, 3, 4, 5, 6, 7])
    expect(pages).toEqual([
      [3, true],
      [3, true],
      [1, false],
    ])
    expect(await page(s, user, id, '?after=7')).toEqual({ events: [], after: 7, hasMore: false })
    expect(await page(s, user, id, '?after=999')).toEqual({ events: [], after: 999, hasMore: false })
    const last = Number.MAX_SAFE_INTEGER
    expect(await page(s, user, id, `?after=${last}`)).toEqual({ events: [], after: last, hasMore: false })
    expect(await page(s, user, id, '?limit=7')).toMatchObject({ after: 7, hasMore: false })
  })

  test('numbers status changes and agent events in one rising sequence', async () => {
    const { s, user, id } = await withProgress(1)
    s.clock.advance(1)
    await remove(s, user, id)
    await s.background.idle()
    const { events } = await page(s, user, id)
    const createdAt = expect.any(String)
    expect(events).toEqual([
      { seq: 1, type: 'session.status', data: { status: 'live' }, createdAt },
      { seq: 2, type: 'progress', data: { step: 1 }, agentId: 'tutor', createdAt },
      { seq: 3, type: 'session.status', data: { status: 'ended', reason: 'user' }, createdAt },
    ])
  })

  test('is empty for a session whose user never joined', async () => {
    const s = await scene()
    const user = await s.newUser()
    const { session_id = '' } = await mint(s, user.bearer)
    expect(await page(s, user, session_id)).toEqual({ events: [], after: 0, hasMore: false })
  })

  test.each(['?after=-1', '?after=x', '?limit=0', '?limit=1001'])('refuses %s', async (query) => {
    const { s, user, ids } = await withSessions(1)
    const field = query.slice(1).split('=')[0]
    const refused = { status: 422, code: 'validation_failed', fields: [field] }
    expect(await refusedFields(s.get(`/sessions/${ids[0]}/events${query}`, user.bearer))).toEqual(refused)
  })
})
