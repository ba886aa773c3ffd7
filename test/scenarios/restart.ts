import { expect, test } from 'vitest'
import { untilActive, untilGone } from '../e2e/rooms.ts'
import type { UseStack } from './stack.ts'

export function restart(useStack: UseStack): void {
  // Without webhooks, and with no second reconciliation in time: what is known when the service is ready, it asked for.
  const stack = useStack({ webhooks: false, env: { RECONCILE_SECONDS: '300' } })

  test('during a session: the session is live before the service is ready', async () => {
    const { api, join, service, rooms } = stack()
    const agent = await api.agent('survivor')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }
    const speaker = await join(ticket.token)
    await untilActive(rooms, ticket.room, speaker.identity)
    expect((await api.progress(agent, pair)).status).toBe(201)

    // As a crash would: nothing is written on the way out.
    await service.stop('SIGKILL')
    await service.start()
    expect((await api.session(user, ticket.session_id)).status).toBe('live')
    expect((await api.progress(agent, pair)).status).toBe(201)
  })

  test('a join that happened during the downtime is known when the service is ready', async () => {
    const { api, join, service, rooms } = stack()
    const agent = await api.agent('latecomer')
    const user = await api.guest()
    const ticket = await api.mint(user)
    await service.stop()
    const speaker = await join(ticket.token)
    await untilActive(rooms, ticket.room, speaker.identity)
    await service.start()
    expect((await api.session(user, ticket.session_id)).status).toBe('live')
    expect((await api.progress(agent, { userId: user.id, sessionId: ticket.session_id })).status).toBe(201)
  })

  test('a user who left during the downtime is not considered present', async () => {
    const { api, join, service, rooms } = stack()
    const agent = await api.agent('believer')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const speaker = await join(ticket.token)
    await untilActive(rooms, ticket.room, speaker.identity)
    expect((await api.progress(agent, { userId: user.id, sessionId: ticket.session_id })).status).toBe(201)
    await service.stop('SIGKILL')
    await speaker.leave()
    await untilGone(rooms, ticket.room, speaker.identity)
    await service.start()
    const answer = await api.progress(agent, { userId: user.id, sessionId: ticket.session_id })
    expect(answer).toMatchObject({ status: 409, code: 'session_not_live' })
  })
}
