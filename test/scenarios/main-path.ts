import { expect, test } from 'vitest'
import type { UseStack } from './stack.ts'

export function mainPath(useStack: UseStack): void {
  const stack = useStack()

  test('an agent calls back for a user who is in the room, and is refused when the user has left', async () => {
    const { api, join } = stack()
    const agent = await api.agent('agent_bot', ['progress:write', 'rooms:join', 'sessions:any'])
    const user = await api.register()
    const ticket = await api.mint(user)
    expect((await api.session(user, ticket.session_id)).status).toBe('pending')

    const speaker = await join(ticket.token)
    expect(speaker.identity).toBe(user.id)
    await api.untilStatus(user, ticket.session_id, 'live')

    // The agent's own token, from the same endpoint: the guide's request with the agent's bearer added.
    const agentTicket = await api.mintForAgent(agent, {
      room: ticket.room,
      identity: 'agent_bot',
      name: 'Voice Assistant',
    })
    const bot = await join(agentTicket.token)
    expect(bot.identity).toBe('agent_bot')
    const seen = await bot.sees(user.id)
    expect(seen.attributes).toMatchObject({ userId: user.id, sessionId: ticket.session_id })
    expect(JSON.parse(seen.metadata)).toMatchObject({ sessionId: ticket.session_id })

    // From here on only with what the agent saw in the room.
    const pair = { userId: seen.identity, sessionId: seen.attributes.sessionId ?? '' }
    const accepted = await api.progress(agent, pair)
    expect(accepted.status).toBe(201)
    expect(accepted.body).toMatchObject({ seq: expect.any(Number) })
    const events = await api.events(user, ticket.session_id)
    expect(events.map(({ data }) => data)).toContainEqual({ status: 'done' })

    const left = performance.now()
    await speaker.leave()
    const { answer } = await api.untilRefused(agent, pair)
    console.log(`measured: first refusal ${Math.round(performance.now() - left)} ms after the user began to leave`)
    expect(answer).toMatchObject({ status: 409, code: 'session_not_live' })
    expect(Number(answer.headers.get('Retry-After'))).toBeGreaterThan(0)
    await api.untilStatus(user, ticket.session_id, 'disconnected')

    await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')
    expect((await api.progress(agent, pair)).status).toBe(201)
    const statuses = (await api.events(user, ticket.session_id))
      .filter(({ type }) => type === 'session.status')
      .map(({ data }) => (data as { status: string }).status)
    expect(statuses).toEqual(['live', 'disconnected', 'live'])
  })

  test('repeated callbacks with one key store one event, and its answer outlives the session', async () => {
    const { api, join } = stack()
    const agent = await api.agent('repeater')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const speaker = await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')

    const pair = { userId: user.id, sessionId: ticket.session_id, key: 'only-once' }
    const first = await api.progress(agent, pair)
    const second = await api.progress(agent, pair)
    expect(first.status).toBe(201)
    expect(second.body).toEqual(first.body)
    await speaker.leave()
    await api.untilStatus(user, ticket.session_id, 'disconnected')
    expect((await api.progress(agent, pair)).body).toEqual(first.body)
    const progress = (await api.events(user, ticket.session_id)).filter(({ type }) => type !== 'session.status')
    expect(progress).toHaveLength(1)
  })
}
