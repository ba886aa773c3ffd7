import { decodeJwt } from 'jose'
import { TokenSource } from 'livekit-client'
import { AccessToken } from 'livekit-server-sdk'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { until } from './processes.ts'
import { untilActive } from './rooms.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

/** What the token guide's clients read of the answer. */
const GuideAnswer = z.object({ url: z.string(), token: z.string(), room: z.string(), identity: z.string() })

describeWithLiveKit('clients of the token endpoint', () => {
  const stack = useStack()

  test('TokenSource.endpoint of livekit-client fetches a token that LiveKit accepts', async () => {
    const { api, join } = stack()
    const user = await api.guest()
    const source = TokenSource.endpoint(`${api.url}/token`, { headers: { Authorization: `Bearer ${user.bearer}` } })
    const { serverUrl, participantToken } = await source.fetch({ participantName: 'Ada' })
    expect(serverUrl).toBe(stack().livekit.url)
    const participant = await join(participantToken)
    expect(participant.identity).toBe(user.id)
    expect(participant.room.localParticipant?.name).toBe('Ada')
    await api.untilStatus(user, participant.room.localParticipant?.attributes.sessionId ?? '', 'live')
  })

  test('a token request without a body creates a session in its own room', async () => {
    const { api } = stack()
    const user = await api.guest()
    const rooms = new Set<string>()
    for (let i = 0; i < 2; i++) {
      const answer = await api.request('POST', '/token', { bearer: user.bearer })
      expect(answer.status).toBe(201)
      rooms.add(GuideAnswer.parse(answer.body).room)
    }
    expect(rooms.size).toBe(2)
  })

  test("the token guide's React and React Native requests work with the user's bearer added", async () => {
    const { api, join, rooms } = stack()
    const user = await api.guest()
    const response = await fetch(`${api.url}/token`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${user.bearer}` },
      body: JSON.stringify({ room: 'voice_assistant_room_12345', name: 'John Doe', auto_create_room: true }),
    })
    expect(response.ok).toBe(true)
    const { url, room, token, identity } = GuideAnswer.parse(await response.json())
    expect({ url, room, identity }).toEqual({
      url: stack().livekit.url,
      room: 'voice_assistant_room_12345',
      identity: user.id,
    })
    expect((await rooms.listRooms([room])).map(({ name }) => name)).toEqual([room])
    expect((await join(token)).room.name).toBe(room)
  })

  test("the guide's agent with a token from this service (method 1) joins and never counts as the user", async () => {
    const { api, join, rooms } = stack()
    const agent = await api.agent('agent_bot', ['progress:write', 'rooms:join', 'sessions:any'])
    const user = await api.guest()
    const ticket = await api.mint(user)
    const askForToken = () =>
      fetch(`${api.url}/token`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${agent.bearer}` },
        body: JSON.stringify({ room: ticket.room, identity: 'agent_bot', name: 'Voice Assistant' }),
      })
    expect((await askForToken()).status).toBe(409)
    const speaker = await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')
    const response = await askForToken()
    expect(response.ok).toBe(true)
    const bot = await join(z.object({ token: z.string() }).parse(await response.json()).token)
    expect(bot.identity).toBe('agent_bot')
    await untilActive(rooms, ticket.room, 'agent_bot')
    const pair = { userId: user.id, sessionId: ticket.session_id }
    expect((await api.untilAccepted(agent, pair, 5)).status).toBe(201)

    await speaker.leave()
    await api.untilStatus(user, ticket.session_id, 'disconnected')
    await untilActive(rooms, ticket.room, 'agent_bot')
    expect(await api.progress(agent, pair)).toMatchObject({ status: 409, code: 'session_not_live' })
  })

  test("the guide's agent with a self-signed token (method 2) joins and never counts as the user", async () => {
    const { api, join, rooms } = stack()
    const agent = await api.agent('self_made')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const minted = new AccessToken('devkey', 'secret', { identity: 'self_made', name: 'Voice Assistant' })
    minted.addGrant({
      room: ticket.room,
      roomJoin: true,
      canPublish: true,
      canSubscribe: true,
      canPublishData: true,
    })
    const bot = await join(await minted.toJwt())
    await untilActive(rooms, ticket.room, 'self_made')
    const pair = { userId: user.id, sessionId: ticket.session_id }
    expect(await api.progress(agent, pair)).toMatchObject({ status: 409, code: 'session_not_live' })
    expect((await api.session(user, ticket.session_id)).status).toBe('pending')

    await join(ticket.token)
    const seen = await bot.sees(user.id)
    expect(seen.attributes).toMatchObject(pair)
    await api.untilStatus(user, ticket.session_id, 'live')
    expect((await api.untilAccepted(agent, pair, 5)).status).toBe(201)
  })

  test("a participant with the user's id but no session attribute does not count as the user", async () => {
    const { api, join, rooms } = stack()
    const agent = await api.agent('forger')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const forged = new AccessToken('devkey', 'secret', { identity: user.id, attributes: { userId: user.id } })
    forged.addGrant({ room: ticket.room, roomJoin: true })
    await join(await forged.toJwt())
    await untilActive(rooms, ticket.room, user.id)
    const answer = await api.progress(agent, { userId: user.id, sessionId: ticket.session_id })
    expect(answer).toMatchObject({ status: 409, code: 'session_not_live' })
    expect((await api.session(user, ticket.session_id)).status).toBe('pending')
  })

  test('a participant cannot change its own metadata, attributes or name', async () => {
    const { api, join, rooms } = stack()
    const user = await api.guest()
    const ticket = await api.mint(user, { participant_metadata: '{"theme":"dark"}', participant_name: 'Ada' })
    const { room } = await join(ticket.token)
    const before = await rooms.getParticipant(ticket.room, user.id)
    // The SDK resolves these calls without waiting for LiveKit's answer. A second participant that may do all this
    // shows when LiveKit has processed such requests.
    const allowed = new AccessToken('devkey', 'secret', { identity: 'allowed' })
    allowed.addGrant({ room: ticket.room, roomJoin: true, canUpdateOwnMetadata: true })
    const control = await join(await allowed.toJwt(), { audio: false })
    for (const participant of [room.localParticipant, control.room.localParticipant]) {
      await participant?.updateMetadata('{"sessionId":"sess_other"}').catch(() => {})
      await participant?.setAttributes({ sessionId: 'sess_other', userId: 'user_other' }).catch(() => {})
      await participant?.updateName('Eve').catch(() => {})
    }
    await until('the change that is allowed shows', async () => {
      const { metadata, attributes, name } = await rooms.getParticipant(ticket.room, 'allowed')
      return metadata.includes('sess_other') && attributes.sessionId === 'sess_other' && name === 'Eve'
    })
    const after = await rooms.getParticipant(ticket.room, user.id)
    expect([after.metadata, after.attributes, after.name]).toEqual([before.metadata, before.attributes, before.name])
    expect(JSON.parse(after.metadata)).toEqual({ theme: 'dark', sessionId: ticket.session_id })
    expect(after.attributes).toEqual({ userId: user.id, sessionId: ticket.session_id })
  })

  test('the join token contains no e-mail address and expires when the answer says', async () => {
    const { api } = stack()
    const user = await api.register()
    const ticket = await api.mint(user)
    const claims = decodeJwt(ticket.token)
    expect(claims.exp).toBe(ticket.expires_at)
    expect(JSON.stringify(claims)).not.toContain('@')
    expect(ticket.token).toBe(ticket.participant_token)
  })
})
