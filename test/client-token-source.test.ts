import { decodeJwt } from 'jose'
import { TokenSource, TokenSourceConfigurable, type TokenSourceFetchOptions } from 'livekit-client'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { userClient } from '#client'
import { failure, faultyFetch, quickClock } from './faulty-fetch.ts'
import { scene } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'

const url = 'http://behalf.test'

const Claims = z.object({ attributes: z.object({ sessionId: z.string() }), video: z.object({ room: z.string() }) })

/** The session and the room that a join token is for. */
function bound({ participantToken }: { participantToken?: string }) {
  const { attributes, video } = Claims.parse(decodeJwt(String(participantToken)))
  return { sessionId: attributes.sessionId, room: video.room }
}

/** A signed-in frontend, and calls that LiveKit reports to the service. */
async function caller() {
  const s = await scene()
  const network = faultyFetch(s.app)
  const client = userClient({ url, fetch: network.fetch, clock: quickClock(s.clock).clock })
  const { id: userId } = await client.guest()
  return {
    s,
    network,
    client,
    userId,
    source: client.tokenSource(TokenSource),
    async dial({ participantToken }: { participantToken?: string }) {
      const leg = s.sfu.join(String(participantToken))
      await postWebhook(s, webhookEvent('participant_joined', leg))
      return async function hangUp() {
        s.sfu.leave(leg)
        await postWebhook(s, webhookEvent('participant_left', leg))
      }
    },
  }
}

describe('tokenSource', () => {
  test('is accepted by React and livekit-client as a configurable token source', async () => {
    const { source } = await caller()
    expect(source).toBeInstanceOf(TokenSourceConfigurable)
  })

  test('reuses the token fetched on mount when it connects', async () => {
    const { source, client } = await caller()
    const [mounted, connecting] = [await source.fetch({}), await source.fetch({})]
    expect(connecting).toEqual(mounted)
    expect((await client.sessions.list()).sessions).toHaveLength(1)
  })

  test('does not reuse the token of a session that the user ended', async () => {
    const { source, client, dial } = await caller()
    const first = await source.fetch({})
    const hangUp = await dial(first)
    await hangUp()
    await client.sessions.end(bound(first).sessionId)
    const redial = await source.fetch({})
    expect(bound(redial).sessionId).not.toBe(bound(first).sessionId)
    expect(bound(redial).room).not.toBe(bound(first).room)
    expect(await client.sessions.get(bound(redial).sessionId)).toMatchObject({ status: 'pending' })
  })

  test('does not reuse the token of a session that the agent ended', async () => {
    const { s, source, dial, userId } = await caller()
    const agent = await s.newAgent()
    const first = await source.fetch({})
    await dial(first)
    const { sessionId } = bound(first)
    expect((await s.end(agent.bearer, { userId, sessionId })).status).toBe(200)
    expect(bound(await source.fetch({})).sessionId).not.toBe(sessionId)
  })

  test('starts a new session after a hang-up, even before the service has noticed it', async () => {
    const { source, dial } = await caller()
    const first = await source.fetch({})
    const hangUp = await dial(first)
    const second = await source.fetch({})
    expect(bound(second).sessionId).not.toBe(bound(first).sessionId)
    await hangUp()
    expect(await source.fetch({})).toEqual(second)
  })

  test('does not give one user the token of another', async () => {
    const { source, client } = await caller()
    const first = await source.fetch({})
    await client.logout()
    expect(await failure(source.fetch({}))).toMatchObject({ code: 'not_signed_in' })
    const { id } = await client.guest()
    const second = await source.fetch({})
    expect(decodeJwt(String(second.participantToken)).sub).toBe(id)
    expect(bound(second).room).not.toBe(bound(first).room)
  })

  test('refreshes an expired user token first', async () => {
    const { s, source, network } = await caller()
    s.clock.advance(60 * 60)
    expect(await source.fetch({})).toMatchObject({ serverUrl: s.config.livekitUrl })
    expect(network.sent.map(({ path }) => path)).toEqual(['/auth/guest', '/auth/refresh', '/token'])
  })

  test('sends the same request as TokenSource.endpoint', async () => {
    const { s, source, network, userId, client } = await caller()
    await s.newAgent('tutor')
    stubFetch(network)
    const headers = { Authorization: `Bearer ${await client.accessToken()}` }
    const options: TokenSourceFetchOptions = {
      roomName: 'lesson',
      participantName: 'Ada',
      participantIdentity: userId,
      participantMetadata: '{"level":3}',
      participantAttributes: { language: 'en' },
      agentName: 'tutor',
      agentMetadata: 'hello',
    }
    await source.fetch(options)
    await TokenSource.endpoint(`${url}/token`, { headers }).fetch(options)
    const [custom, endpoint] = network.sentTo('/token').map(({ body }) => JSON.parse(body))
    expect(custom).toEqual(endpoint)
  })
})

describe('TokenSource.endpoint', () => {
  test('needs fetch(options, true) to start a new call; otherwise it returns the ended session', async () => {
    const { client, dial, network } = await caller()
    stubFetch(network)
    const headers = { Authorization: `Bearer ${await client.accessToken()}` }
    const source = TokenSource.endpoint(`${url}/token`, { headers })
    const first = await source.fetch({})
    const hangUp = await dial(first)
    await hangUp()
    await client.sessions.end(bound(first).sessionId)

    expect(await source.fetch({})).toEqual(first)
    const redial = await source.fetch({}, true)
    expect(bound(redial).sessionId).not.toBe(bound(first).sessionId)
    expect(await client.sessions.get(bound(redial).sessionId)).toMatchObject({ status: 'pending' })
  })
})

/** For the SDK, which has only the global fetch; the service asks LiveKit with the real one. */
function stubFetch(network: ReturnType<typeof faultyFetch>): void {
  const real = globalThis.fetch
  vi.stubGlobal('fetch', (...[input, init]: Parameters<typeof fetch>) =>
    String(input).startsWith(url) ? network.fetch(input, init) : real(input, init),
  )
}

afterEach(() => {
  vi.unstubAllGlobals()
})
