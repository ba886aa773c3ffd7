import { expect, test } from 'vitest'
import { holds } from '../e2e/processes.ts'
import type { UseStack } from './stack.ts'

export function twoTabs(useStack: UseStack): void {
  const stack = useStack({ env: { LIVENESS_SECONDS: '2', RECONNECT_SECONDS: '3', RECONCILE_SECONDS: '1' } })

  test('with one token: the newer connection stays live and the end of the older one ends nothing', async () => {
    const { api, join } = stack()
    const agent = await api.agent('one_token')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }

    const older = await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')
    const newer = await join(ticket.token)
    expect(await older.whenDisconnected).toBe('DUPLICATE_IDENTITY')

    // Longer than RECONNECT_SECONDS, so that a reconciliation could have ended it.
    await holds('the newer connection carries the session', 5, async () => {
      expect(newer.disconnected()).toBeUndefined()
      expect((await api.session(user, ticket.session_id)).status).not.toBe('ended')
    })
    await api.untilStatus(user, ticket.session_id, 'live')
    expect((await api.progress(agent, pair)).status).toBe(201)
  })

  test('with two tokens: the newer session is live, the older one is refused, disconnected and later ended', async () => {
    const { api, join } = stack()
    const agent = await api.agent('two_tokens')
    const user = await api.guest()
    const older = await api.mint(user)
    const newer = await api.mint(user, { room_name: older.room })
    expect(newer.session_id).not.toBe(older.session_id)

    const first = await join(older.token)
    await api.untilStatus(user, older.session_id, 'live')
    const second = await join(newer.token)
    expect(await first.whenDisconnected).toBe('DUPLICATE_IDENTITY')
    await api.untilStatus(user, newer.session_id, 'live')
    expect((await api.progress(agent, { userId: user.id, sessionId: newer.session_id })).status).toBe(201)

    // The identity is in the room, but for the other session.
    const { answer } = await api.untilRefused(agent, { userId: user.id, sessionId: older.session_id })
    expect(answer.status).toBe(409)
    await api.untilStatus(user, older.session_id, 'ended', 20)
    const statuses = (await api.events(user, older.session_id))
      .filter(({ type }) => type === 'session.status')
      .map(({ data }) => (data as { status: string }).status)
    expect(statuses).toEqual(['live', 'disconnected', 'ended'])

    // Removing the older session's participant must not touch the newer one.
    await holds('the newer session stays', 3, async () => {
      expect(second.disconnected()).toBeUndefined()
      expect((await api.progress(agent, { userId: user.id, sessionId: newer.session_id })).status).toBe(201)
    })
  })
}
