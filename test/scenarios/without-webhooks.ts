import { expect, test } from 'vitest'
import { untilActive } from '../e2e/rooms.ts'
import type { UseStack } from './stack.ts'

const LIVENESS_SECONDS = 2
/** What an answer may take on its way back on a busy machine. */
const ANSWER_MS = 500

export function withoutWebhooks(useStack: UseStack): void {
  // Reconciliation is as rare as it can be set: what is right here is right because the guard asks LiveKit.
  const stack = useStack({
    webhooks: false,
    env: { LIVENESS_SECONDS: String(LIVENESS_SECONDS), RECONCILE_SECONDS: '300' },
  })

  test('a callback before the join is refused, the first one right after it is accepted', async () => {
    const { api, join } = stack()
    const agent = await api.agent('first_call')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }

    expect(await api.progress(agent, pair)).toMatchObject({ status: 409, code: 'session_not_live' })
    const speaker = await join(ticket.token)
    // A refusal is reused for a second at most; no webhook comes to say that it is outdated.
    const accepted = await api.untilAccepted(agent, pair, 3)
    expect(accepted.status).toBe(201)
    expect(speaker.disconnected()).toBeUndefined()
    expect((await api.session(user, ticket.session_id)).status).toBe('live')
  })

  test('the first liveness check of a session gets the right answer', async () => {
    const { api, join, rooms } = stack()
    const agent = await api.agent('no_question')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const speaker = await join(ticket.token)
    await untilActive(rooms, ticket.room, speaker.identity)
    expect((await api.session(user, ticket.session_id)).status).toBe('pending')
    expect((await api.progress(agent, { userId: user.id, sessionId: ticket.session_id })).status).toBe(201)
  })

  test('a callback is refused within LIVENESS_SECONDS of the user leaving, and accepted when the user is back', async () => {
    const { api, join, rooms } = stack()
    const agent = await api.agent('leaver')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }
    const speaker = await join(ticket.token)
    await untilActive(rooms, ticket.room, speaker.identity)
    expect((await api.progress(agent, pair)).status).toBe(201)

    await speaker.leave()
    const { lastAcceptedMs, refusedMs } = await api.untilRefused(agent, pair)
    console.log(
      `measured without webhooks, from the user having left: last accepted ${lastAcceptedMs} ms, first refusal ${refusedMs} ms`,
    )
    // The decision falls within the bound; its answer takes a moment to arrive here.
    expect(lastAcceptedMs).toBeLessThan(LIVENESS_SECONDS * 1000 + ANSWER_MS)

    await join(ticket.token)
    expect((await api.untilAccepted(agent, pair, 5)).status).toBe(201)
  })

  test('another participant who stays in the room does not count as the user', async () => {
    const { api, join, rooms } = stack()
    const agent = await api.agent('bystander', ['progress:write', 'rooms:join', 'sessions:any'])
    const user = await api.guest()
    const ticket = await api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }
    const speaker = await join(ticket.token)
    await api.untilAccepted(agent, pair, 5)
    const bot = await join((await api.mintForAgent(agent, { room: ticket.room })).token)
    await speaker.leave()
    expect((await api.untilRefused(agent, pair)).answer).toMatchObject({ status: 409, code: 'session_not_live' })
    await untilActive(rooms, ticket.room, bot.identity)
  })
}
