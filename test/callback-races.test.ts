import { describe, expect, test, vi } from 'vitest'
import { callingScene, ENDED, NOT_LIVE, refusal } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'

type Calling = Awaited<ReturnType<typeof callingScene>>

/** What can happen to a session while a callback for it is under way, and what the callback is told then. */
const MEANWHILE: Array<[string, (c: Calling) => Promise<Response>, typeof ENDED]> = [
  [
    'its user ends it',
    ({ s, user, pair }) => {
      const headers = { Authorization: `Bearer ${user.bearer}` }
      return Promise.resolve(s.app.request(`/sessions/${pair.sessionId}`, { method: 'DELETE', headers }))
    },
    ENDED,
  ],
  ['its user leaves', ({ s, leg }) => postWebhook(s, webhookEvent('participant_left', leg)), NOT_LIVE],
]

describe.each(MEANWHILE)('when %s', (_, happen, expected) => {
  test('while LiveKit is being asked, nothing is written', async () => {
    const c = await callingScene()
    const { s, user, pair, agent, report, untilAsked } = c
    await report()
    s.clock.advance(11)
    const release = s.sfu.hold()
    const answers = [report(), s.end(agent.bearer, pair), s.context(agent.bearer, pair)]
    await untilAsked(2)
    expect((await happen(c)).status).toBe(200)
    const events = await s.eventsOf(user, pair)
    release()
    for (const answer of answers) expect(await refusal(answer)).toEqual(expected)
    expect(await s.eventsOf(user, pair)).toEqual(events)
  })

  test('between the guard and the write of progress, nothing is written (A41)', async () => {
    const c = await callingScene()
    const { s, user, pair, report } = c
    const { append } = s.store.events
    vi.spyOn(s.store.events, 'append').mockImplementationOnce(async (event) => {
      expect((await happen(c)).status).toBe(200)
      return append(event)
    })
    expect(await refusal(report())).toEqual(expected)
    expect((await s.eventsOf(user, pair)).map(({ type }) => type)).not.toContain('progress')
  })

  test('between the guard and the write of an end, nothing is written', async () => {
    const c = await callingScene()
    const { s, user, pair, agent } = c
    const { end } = s.store.sessions
    vi.spyOn(s.store.sessions, 'end').mockImplementationOnce(async (...how) => {
      expect((await happen(c)).status).toBe(200)
      return end(...how)
    })
    expect(await refusal(s.end(agent.bearer, pair))).toEqual(expected)
    expect(JSON.stringify(await s.eventsOf(user, pair))).not.toContain('tutor')
  })
})
