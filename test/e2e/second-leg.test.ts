import { afterAll, beforeAll, expect, test } from 'vitest'
import { type SecondLeg, secondLeg } from './leg.ts'
import { holds } from './processes.ts'
import { untilActive } from './rooms.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

// Any join token also opens a publish-only connection `identity#x` with the same attributes: it is not the user.
describeWithLiveKit('a second leg of the join token', () => {
  const stack = useStack({ env: { LIVENESS_SECONDS: '2', RECONCILE_SECONDS: '1' } })
  let door: SecondLeg
  beforeAll(async () => {
    door = await secondLeg(stack().livekit.url, 'x')
  })
  afterAll(() => door.close())

  test('never makes a session live', async () => {
    const { api, join, rooms } = stack()
    const agent = await api.agent('leg_only')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const leg = await join(ticket.token, { url: door.url })
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
    const leg = await join(ticket.token, { url: door.url })
    expect(leg.identity).toBe(`${user.id}#x`)
    await untilActive(rooms, ticket.room, `${user.id}#x`)

    await speaker.leave()
    const { answer } = await api.untilRefused(agent, { userId: user.id, sessionId: ticket.session_id })
    expect(answer).toMatchObject({ status: 409, code: 'session_not_live' })
    await api.untilStatus(user, ticket.session_id, 'disconnected')
    await untilActive(rooms, ticket.room, `${user.id}#x`)
  })
})
