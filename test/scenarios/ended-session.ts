import { expect, test } from 'vitest'
import { holds, until } from '../e2e/processes.ts'
import type { UseStack } from './stack.ts'

export function endedSession(useStack: UseStack): void {
  const stack = useStack({ env: { RECONCILE_SECONDS: '1' } })

  test('its participant is disconnected, and removed again after rejoining with the old token (A50)', async () => {
    const { api, join } = stack()
    const agent = await api.agent('closer')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }
    const speaker = await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')

    await api.end(user, ticket.session_id)
    expect((await api.session(user, ticket.session_id)).status).toBe('ended')
    expect(await api.progress(agent, pair)).toMatchObject({ status: 409, code: 'session_ended' })
    await until('the participant is disconnected', () => speaker.disconnected() !== undefined)

    // When the removal comes in the middle of connecting, the SDK waits for long and then tries again.
    const back = await join(ticket.token, { audio: false })
    await until('the participant is removed again', () => back.disconnected() !== undefined, 30)
    expect((await api.session(user, ticket.session_id)).status).toBe('ended')
    expect(await api.progress(agent, pair)).toMatchObject({ status: 409, code: 'session_ended' })
  }, 120_000)

  test('another live session of the same user in the same room is unaffected', async () => {
    const { api, join } = stack()
    const agent = await api.agent('untouched')
    const user = await api.guest()
    const older = await api.mint(user)
    const newer = await api.mint(user, { room_name: older.room })
    const first = await join(older.token)
    await api.untilStatus(user, older.session_id, 'live')
    const second = await join(newer.token)
    await first.whenDisconnected
    await api.untilStatus(user, newer.session_id, 'live')

    await api.end(user, older.session_id)
    // Several reconciliations long: each of them looks for participants of ended sessions to remove.
    await holds('the newer session stays', 4, async () => {
      expect(second.disconnected()).toBeUndefined()
      expect((await api.progress(agent, { userId: user.id, sessionId: newer.session_id })).status).toBe(201)
    })
  })

  test('an agent that ends the session removes the user', async () => {
    const { api, join } = stack()
    const agent = await api.agent('finisher')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const speaker = await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')
    const body = { userId: user.id, sessionId: ticket.session_id, reason: 'done' }
    const answer = await api.request('POST', '/agent/session/end', { bearer: agent.bearer, body })
    expect(answer.status).toBe(200)
    await until('the participant is disconnected', () => speaker.disconnected() !== undefined)
    expect((await api.session(user, ticket.session_id)).status).toBe('ended')
  })
}
