import { AccessToken } from 'livekit-server-sdk'
import { expect, test } from 'vitest'
import { REPOSITORY } from './binaries.ts'
import { output, run, until } from './processes.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('npm run join', () => {
  const stack = useStack()

  test('the join command joins as the user, prints what it sees, and leaves on Ctrl-C', async () => {
    const { api, join, livekit } = stack()
    const agent = await api.agent('listener', ['rooms:join', 'sessions:any'])
    const user = await api.guest()
    const ticket = await api.mint(user)
    const joined = run('npm', ['run', 'join', '--', ticket.token], {
      cwd: REPOSITORY,
      env: { LIVEKIT_URL: livekit.url },
    })
    try {
      await api.untilStatus(user, ticket.session_id, 'live')
      const bot = await join((await api.mintForAgent(agent, { room: ticket.room, identity: 'listener' })).token)
      await until('it has seen the other one join', () => joined.log().includes('joined: listener'))
      await bot.room.localParticipant?.publishData(new TextEncoder().encode('hello'), { reliable: true, topic: 'chat' })
      await until('it has printed the message', () => joined.log().includes('hello'))
      await bot.leave()
      await until('it has seen the other one leave', () => joined.log().includes('left: listener'))

      expect(joined.log()).toContain(`connected: room ${ticket.room} as ${user.id}`)
      expect(joined.log()).toContain(`sessionId=${ticket.session_id}`)
      expect(joined.log()).toContain('data: from listener on chat: hello')
    } finally {
      await joined.stop('SIGINT')
    }
    await api.untilStatus(user, ticket.session_id, 'disconnected')
  })

  test('the join command writes to an agent that listens, and prints what it answers', async () => {
    const { api, join, livekit } = stack()
    const ticket = await api.mint(await api.guest())
    const token = new AccessToken('devkey', 'secret', {
      identity: 'bot',
      attributes: { 'lk.agent.state': 'listening' },
    })
    token.addGrant({ roomJoin: true, room: ticket.room })
    const bot = await join(await token.toJwt(), { audio: false })
    bot.room.registerTextStreamHandler('lk.chat', async (reader) => {
      await bot.room.localParticipant?.sendText(`You said: ${await reader.readAll()}`, { topic: 'lk.transcription' })
    })
    const args = ['run', 'join', '--', ticket.token, '--url', livekit.url, '--say', 'a tea, please']
    const joined = run('npm', args, { cwd: REPOSITORY })
    try {
      await until('the answer is printed', () => joined.log().includes('text: from bot: You said: a tea, please'))
    } finally {
      await joined.stop('SIGINT')
    }
  })

  test('the join command prints why it was disconnected', async () => {
    const { api, livekit } = stack()
    const user = await api.guest()
    const ticket = await api.mint(user)
    const joined = run('npm', ['run', 'join', '--', ticket.token, '--url', livekit.url], { cwd: REPOSITORY })
    try {
      await until('it has joined', () => joined.log().includes('publishing:'))
      await api.untilStatus(user, ticket.session_id, 'live')
      await api.end(user, ticket.session_id)
      await until('it has ended by itself', () => !joined.isRunning())
    } finally {
      await joined.stop()
    }
    expect(joined.log()).toContain('disconnected: ROOM_DELETED')
    expect(joined.exitCode()).toBe(1)
  })

  test('the join command rejects a bad token with one line', async () => {
    const args = ['run', 'join', '--', 'not-a-token', '--url', stack().livekit.url]
    await expect(output('npm', args, { cwd: REPOSITORY })).rejects.toThrow(
      /ended with 1:[\s\S]*Could not join at ws:.*401/,
    )
  })
})
