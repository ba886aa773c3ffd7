import { describe, expect, test, vi } from 'vitest'
import { callingScene, ENDED, NOT_LIVE, refusal, UNKNOWN } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'

type Calling = Awaited<ReturnType<typeof callingScene>>

/** What can happen to a session during a callback, and the refusal that the callback then gets. */
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

describe.each(MEANWHILE)('a callback when %s', (_, happen, expected) => {
  test('during the liveness check writes nothing', async () => {
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

  test('between the guard and the write of progress writes nothing (A41)', async () => {
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

  test('between the guard and the write of an end writes nothing', async () => {
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

test('simultaneous wrap-up callbacks are all stored, one after the other', async () => {
  const { s, report, leg, user, pair } = await callingScene({ env: { WRAP_UP_SECONDS: '30' } })
  await report()
  s.sfu.leave(leg)
  await postWebhook(s, webhookEvent('participant_left', leg))
  s.clock.advance(2)
  const answers = await Promise.all([report(), report(), report()])
  expect(answers.map(({ status }) => status)).toEqual([201, 201, 201])
  const seqs = (await s.eventsOf(user, pair)).map(({ seq }) => seq)
  expect(seqs).toEqual(seqs.map((_, index) => index + 1))
})

describe('when LiveKit’s answer changed nothing for the guard', () => {
  /** The guard was answered "absent", with a question older than the reconciler's "there"; then this happens. */
  async function afterOldAnswer(happen: (c: Calling) => Promise<unknown>) {
    const c = await callingScene()
    const { s, report, leg } = c
    await report()
    const ghost = { ...leg, participant: { ...leg.participant, sid: 'PA_ghost' } }
    await postWebhook(s, webhookEvent('participant_joined', ghost))
    s.clock.advance(11)
    vi.spyOn(s.livekit, 'getParticipant').mockImplementationOnce(async () => {
      await s.reconcile()
      return null
    })
    const { report: write } = s.sessions
    vi.spyOn(s.sessions, 'report').mockImplementationOnce(async (...args) => {
      await happen(c)
      return write(...args)
    })
    return { c, answer: await report() }
  }

  test('a leave that is reported before the write still wins', async () => {
    const { answer } = await afterOldAnswer(({ s, leg }) => postWebhook(s, webhookEvent('participant_left', leg)))
    expect(await refusal(answer)).toEqual(NOT_LIVE)
  })

  test('a join token minted before the write is not undone by it', async () => {
    const agent = { agentName: 'tutor', agentData: '"new"', agentDeployment: null }
    const renewal = { tokenExpiresAt: Number.MAX_SAFE_INTEGER, ...agent }
    const { c, answer } = await afterOldAnswer(({ s, pair }) => s.sessions.renew(pair.sessionId, renewal))
    expect(answer.status).toBe(201)
    const stored = await c.s.store.sessions.find(c.pair.sessionId)
    expect(stored).toMatchObject({ tokenExpiresAt: Number.MAX_SAFE_INTEGER, agentName: 'tutor', agentData: '"new"' })
  })
})

describe('when the confirmation expires between the guard and the write', () => {
  const WRITES = [
    ['progress', ({ report }: Calling) => report()],
    ['an end', ({ s, agent, pair }: Calling) => s.end(agent.bearer, pair)],
  ] as const

  /** How many times the confirmation expires before a write's transaction. */
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

  test.each(WRITES)('%s is refused when the user has left in the meantime', async (_, call) => {
    const c = await callingScene()
    expect((await c.report()).status).toBe(201)
    c.s.sfu.leave(c.leg)
    delayed(c, 1)
    expect(await refusal(call(c))).toEqual(NOT_LIVE)
  })

  test.each(WRITES)('%s is refused when confirmations keep expiring', async (_, call) => {
    const c = await callingScene()
    delayed(c, 2)
    expect(await refusal(call(c))).toEqual(UNKNOWN)
  })
})
