import { describe, expect, test, vi } from 'vitest'
import { callingScene, ENDED, NOT_LIVE, refusal, UNKNOWN } from './scene.ts'
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
    const { report: write } = s.sessions
    vi.spyOn(s.sessions, 'report').mockImplementationOnce(async (...args) => {
      expect((await happen(c)).status).toBe(200)
      return write(...args)
    })
    expect(await refusal(report())).toEqual(expected)
    expect((await s.eventsOf(user, pair)).map(({ type }) => type)).not.toContain('progress')
  })

  test('between the guard and the write of an end, nothing is written', async () => {
    const c = await callingScene()
    const { s, user, pair, agent } = c
    const { endAsAgent } = s.sessions
    vi.spyOn(s.sessions, 'endAsAgent').mockImplementationOnce(async (...how) => {
      expect((await happen(c)).status).toBe(200)
      return endAsAgent(...how)
    })
    expect(await refusal(s.end(agent.bearer, pair))).toEqual(expected)
    expect(JSON.stringify(await s.eventsOf(user, pair))).not.toContain('tutor')
  })
})

describe('when the confirmation grows too old between the guard and the write', () => {
  const WRITES = [
    ['progress', ({ report }: Calling) => report()],
    ['an end', ({ s, agent, pair }: Calling) => s.end(agent.bearer, pair)],
  ] as const

  /** So many times more time passes before a write's transaction than a confirmation counts. */
  function delayed({ s }: Calling, times: number): void {
    const { report, endAsAgent } = s.sessions
    let left = times
    const wait = () => void (left-- > 0 && s.clock.advance(10.001))
    s.sessions.report = (...args) => {
      wait()
      return report(...args)
    }
    s.sessions.endAsAgent = (...args) => {
      wait()
      return endAsAgent(...args)
    }
  }

  test.each(WRITES)('LiveKit is asked again before %s is written', async (_, call) => {
    const c = await callingScene()
    delayed(c, 1)
    expect((await call(c)).ok).toBe(true)
    expect(c.asked()).toBe(2)
  })

  test.each(WRITES)('%s of a user who left meanwhile is refused', async (_, call) => {
    const c = await callingScene()
    expect((await c.report()).status).toBe(201)
    c.s.sfu.leave(c.leg)
    delayed(c, 1)
    expect(await refusal(call(c))).toEqual(NOT_LIVE)
  })

  test.each(WRITES)('%s is refused when that goes on', async (_, call) => {
    const c = await callingScene()
    delayed(c, 2)
    expect(await refusal(call(c))).toEqual(UNKNOWN)
  })
})
