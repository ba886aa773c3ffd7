import { expect, test } from 'vitest'
import { holds } from '../e2e/processes.ts'
import { untilActive } from '../e2e/rooms.ts'
import type { UseStack } from './stack.ts'

// Any join token also opens a publish-only connection `identity#x` with the same attributes: it is not the user.
export function secondLegs(useStack: UseStack): void {
  const stack = useStack({ env: { LIVENESS_SECONDS: '2', RECONCILE_SECONDS: '1' } })

  test('never makes a session live', async () => {
    const { api, join, rooms } = stack()
    const agent = await api.agent('leg_only')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const leg = await join(ticket.token, { publish: 'x' })
    expect(leg.identity).toBe(`${user.id}#x`)
    await untilActive(rooms, ticket.room, `${user.id}#x`)
    await holds('it stays pending', 3, async () => {
      const answer = await api.progress(agent, { userId: user.id, sessionId: ticket.session_id })
      expect(answer).toMatchObject({ status: 409, code: 'session_not_live' })
      expect((await api.session(user, ticket.session_id)).status).toBe('pending')
    })
  })

  test('never keeps a session live', async () => {
    const { api, join, rooms } = stack()
    const agent = await api.agent('leg_left')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const speaker = await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')
    const leg = await join(ticket.token, { publish: 'x' })
    expect(leg.identity).toBe(`${user.id}#x`)
    await untilActive(rooms, ticket.room, `${user.id}#x`)

    await speaker.leave()
    const { answer } = await api.untilRefused(agent, { userId: user.id, sessionId: ticket.session_id })
    expect(answer).toMatchObject({ status: 409, code: 'session_not_live' })
    await api.untilStatus(user, ticket.session_id, 'disconnected')
    await untilActive(rooms, ticket.room, `${user.id}#x`)
  })
}
