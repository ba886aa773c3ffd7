import { expect, test } from 'vitest'
import { holds } from './processes.ts'
import { untilActive, untilGone } from './rooms.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

const LIVENESS_SECONDS = 2

describeWithLiveKit('the service is restarted', () => {
  const stack = useStack()

  test('in mid-session: the session is live before the service says it is ready', async () => {
    const { api, join, service } = stack()
    const agent = await api.agent('survivor')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const pair = { userId: user.id, sessionId: ticket.session_id }
    await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')

    // As a crash would: nothing is written on the way out.
    await service.stop('SIGKILL')
    await service.start()
    expect((await api.session(user, ticket.session_id)).status).toBe('live')
    expect((await api.progress(agent, pair)).status).toBe(201)
  })

  test('a join that happened while it was down is known when it is ready', async () => {
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

  test('a user who left while it was down is not believed to be there', async () => {
    const { api, join, service, rooms } = stack()
    const agent = await api.agent('believer')
    const user = await api.guest()
    const ticket = await api.mint(user)
    const speaker = await join(ticket.token)
    await api.untilStatus(user, ticket.session_id, 'live')
    await service.stop('SIGKILL')
    await speaker.leave()
    await untilGone(rooms, ticket.room, speaker.identity)
    await service.start()
    const answer = await api.progress(agent, { userId: user.id, sessionId: ticket.session_id })
    // Just after a join LiveKit may show it late, so "cannot tell" is an honest answer too; "live" is not.
    expect(['session_not_live', 'liveness_unknown']).toContain(answer.code)
  })
})

describeWithLiveKit('LiveKit stops', () => {
  const stack = useStack({ env: { LIVENESS_SECONDS: String(LIVENESS_SECONDS), RECONCILE_SECONDS: '1' } })

  test('nothing is assumed: 503 once the confirmation is stale, and health tells what is wrong', async () => {
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
    const { ms, answer } = await api.untilRefused(agent, pair)
    console.log(`measured: first refusal ${ms} ms after LiveKit was killed (bound ${LIVENESS_SECONDS} s)`)
    expect(ms).toBeLessThan((LIVENESS_SECONDS + 2) * 1000)
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
})
