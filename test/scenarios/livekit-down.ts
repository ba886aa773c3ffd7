import { expect, test } from 'vitest'
import { holds } from '../e2e/processes.ts'
import type { UseStack } from './stack.ts'

const LIVENESS_SECONDS = 2
/** What an answer may take on its way back on a busy machine. */
const ANSWER_MS = 500

export function livekitDown(useStack: UseStack): void {
  const stack = useStack({ env: { LIVENESS_SECONDS: String(LIVENESS_SECONDS), RECONCILE_SECONDS: '1' } })

  test('answers 503 once the confirmation is stale, and health says why', async () => {
    const { api, join, livekit } = stack()
    const agent = await api.agent('patient')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }
    await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')
    expect((await api.progress(agent, pair)).status).toBe(201)
    expect((await api.request('GET', '/health')).status).toBe(200)

    await livekit.kill()
    const { answer, lastAcceptedMs, refusedMs } = await api.untilRefused(agent, pair)
    console.log(
      `measured, from LiveKit being killed: last accepted ${lastAcceptedMs} ms, first refusal ${refusedMs} ms`,
    )
    expect(lastAcceptedMs).toBeLessThan(LIVENESS_SECONDS * 1000 + ANSWER_MS)
    expect(answer).toMatchObject({ status: 503, code: 'liveness_unknown' })
    expect(Number(answer.headers.get('Retry-After'))).toBeGreaterThan(0)
    await holds('it is never accepted while LiveKit is away', 3, async () => {
      expect(await api.progress(agent, pair)).toMatchObject({ status: 503, code: 'liveness_unknown' })
    })
    // Not knowing changes nothing about the session.
    expect((await api.session(user, ticket.session_id)).status).toBe('live')

    await api.untilHealth(503)
    expect((await api.request('GET', '/health/live')).status).toBe(200)
    expect((await api.request('GET', '/health/ready')).status).toBe(200)
    // Signing is local: a token for a fresh room needs no LiveKit, and signing in does not either.
    expect((await api.mint(await api.guest())).token).not.toBe('')
    await livekit.start()
    await api.untilHealth(200)
  })
}
