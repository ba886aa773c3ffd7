import { describe, expect, test, vi } from 'vitest'
import { callingScene, refusal } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { listening, openStream, requestStream } from './stream-client.ts'

/** A user in a call, an agent that works for it, and the address of the session's events. */
async function call(env: Record<string, string> = {}) {
  const c = await callingScene({ env })
  const server = await listening(c.s.app.fetch)
  const url = `${server}/sessions/${c.pair.sessionId}/events`
  const { bearer } = c.user
  return {
    ...c,
    server,
    url,
    bearer,
    report: async (step: number) => expect((await c.s.progress(c.agent.bearer, c.pair, {}, { step })).status).toBe(201),
    end: async () => expect((await c.s.end(c.agent.bearer, c.pair)).status).toBe(200),
    open: (query = '', headers: Record<string, string> = {}) => openStream(`${url}${query}`, { bearer, headers }),
  }
}

vi.setConfig({ testTimeout: 20_000 })

const seqs = (...numbers: number[]) => numbers.map(String)

describe('GET /sessions/{id}/events as a stream', () => {
  test('sends past and new events in order, in the same form as the page', async () => {
    const { s, user, pair, report, end, open } = await call()
    await report(1)
    const stream = await open()
    await stream.until(() => expect(stream.ids).toEqual(seqs(1, 2)))
    await report(2)
    await stream.until(() => expect(stream.ids).toEqual(seqs(1, 2, 3)))
    await report(3)
    await end()
    expect(await stream.over).toBe(true)
    const page = await s.eventsOf(user, pair)
    expect(page.map(({ type, data }) => [type, data])).toMatchObject([
      ['session.status', { status: 'live' }],
      ['progress', { step: 1 }],
      ['progress', { step: 2 }],
      ['progress', { step: 3 }],
      ['session.status', { status: 'ended', reason: 'agent' }],
    ])
    expect(stream.events).toEqual(page)
    expect(stream.ids).toEqual(page.map(({ seq }) => String(seq)))
    expect(stream.closed).toEqual({ reason: 'ended' })
  })

  test('has the headers and framing that browsers and proxies need', async () => {
    const { report, end, open, s, user, pair } = await call()
    await report(1)
    await end()
    const stream = await open()
    await stream.over
    expect(Object.fromEntries(stream.headers)).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
      vary: expect.stringContaining('Accept'),
    })
    const events = (await s.eventsOf(user, pair)).map((event) => `id: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`)
    expect(stream.text).toBe(['retry: 1000\n\n', ...events, 'event: close\ndata: {"reason":"ended"}\n\n'].join(''))
  })

  test('sends nothing before its head, even when an event is stored in between', async () => {
    const { s, pair, bearer, report } = await call()
    const server = await listening(async (request, env) => {
      const response = await s.app.fetch(request, env)
      await report(1)
      return response
    })
    const stream = await openStream(`${server}/sessions/${pair.sessionId}/events`, { bearer })
    expect(stream.headers.get('Content-Type')).toBe('text/event-stream')
    await stream.until(() => expect(stream.ids).toEqual(seqs(1, 2)))
    expect(stream.text.indexOf('retry: 1000')).toBe(0)
    stream.stop()
  })

  test('sends each status change as it happens', async () => {
    const { s, agent, pair, user, open } = await call()
    const stream = await open()
    const statuses = () => stream.events.map(({ data }) => data)
    await s.progress(agent.bearer, pair)
    await stream.until(() => expect(statuses()[0]).toEqual({ status: 'live' }))
    await s.app.request(`/sessions/${pair.sessionId}`, {
      method: 'DELETE',
      headers: { Authorization: `Bearer ${user.bearer}` },
    })
    expect(await stream.over).toBe(true)
    expect(statuses().at(-1)).toEqual({ status: 'ended', reason: 'user' })
  })

  test.each([
    ['Last-Event-ID', '', { 'Last-Event-ID': '3' }, [4, 5]],
    ['after', '?after=4', {}, [5]],
    ['Last-Event-ID rather than after', '?after=1', { 'Last-Event-ID': '3' }, [4, 5]],
    ['the beginning', '?after=0', {}, [1, 2, 3, 4, 5]],
    ['the end', '', { 'Last-Event-ID': '5' }, []],
    ['beyond the end', '', { 'Last-Event-ID': '9'.repeat(15) }, []],
  ])('resumes from %s', async (_, query, headers, expected) => {
    const { report, end, open } = await call()
    for (const step of [1, 2, 3]) await report(step)
    await end()
    const stream = await open(query, headers as Record<string, string>)
    expect(await stream.over).toBe(true)
    expect(stream.ids).toEqual(seqs(...expected))
    expect(stream.closed).toEqual({ reason: 'ended' })
  })

  test('stays open through the wrap-up window after the user left', async () => {
    const { s, leg, report, open } = await call({ WRAP_UP_SECONDS: '30', RECONNECT_SECONDS: '10' })
    await report(1)
    const stream = await open()
    s.sfu.leave(leg)
    await postWebhook(s, webhookEvent('participant_left', leg))
    s.clock.advance(11)
    await s.reconcile()
    await stream.until(() => expect(stream.events.at(-1)?.data).toEqual({ status: 'ended', reason: 'left' }))
    await report(2)
    await stream.until(() => expect(stream.events.at(-1)?.data).toEqual({ step: 2 }))
    s.clock.advance(31)
    expect(await stream.over).toBe(true)
    expect(stream.closed).toEqual({ reason: 'ended' })
  })

  test('resumes without gap or repeat after a disconnection', async () => {
    const { report, open } = await call()
    await report(1)
    const first = await open()
    await first.until(() => expect(first.ids).toEqual(seqs(1, 2)))
    first.stop()
    expect(await first.over).toBe(false)
    await report(2)
    const second = await open('', { 'Last-Event-ID': first.ids.at(-1) ?? '' })
    await report(3)
    await second.until(() => expect(second.ids).toEqual(seqs(3, 4)))
  })

  test.each([
    ['a word', 'x'],
    ['a negative number', '-1'],
    ['a fraction', '1.5'],
    ['a number past all', '9'.repeat(16)],
  ])('refuses %s as Last-Event-ID', async (_, lastEventId) => {
    const { url, bearer } = await call()
    const answer = requestStream(url, { bearer, headers: { 'Last-Event-ID': lastEventId } })
    expect(await refusal(answer)).toEqual({ status: 422, code: 'validation_failed' })
  })

  test('refuses an invalid "after"', async () => {
    const { url, bearer } = await call()
    expect((await refusal(requestStream(`${url}?after=x`, { bearer }))).code).toBe('validation_failed')
  })

  test('is refused to other users', async () => {
    const { s, server, url, agent } = await call()
    const { bearer } = await s.newUser()
    const NOT_FOUND = { status: 404, code: 'session_not_found' }
    expect(await refusal(requestStream(url, { bearer }))).toEqual(NOT_FOUND)
    expect(await refusal(requestStream(`${server}/sessions/sess_none/events`, { bearer }))).toEqual(NOT_FOUND)
    expect((await refusal(requestStream(url, agent))).code).toBe('invalid_token')
  })

  test.each(['access_token', 'token', 'bearer'])('accepts no token in the URL (%s)', async (name) => {
    const { url, bearer } = await call()
    const answer = fetch(`${url}?${name}=${bearer}`, { headers: { Accept: 'text/event-stream' } })
    expect(await refusal(answer)).toEqual({ status: 401, code: 'missing_token' })
  })

  test.each([
    ['text/event-stream', true],
    ['application/json;q=0.8, Text/Event-Stream; q=0.9', true],
    ['text/event-stream, */*;q=0.1', true],
    ['application/json, text/event-stream;q=0.9', false],
    ['text/event-stream;q=0', false],
    ['application/json', false],
    ['*/*', false],
    ['text/event-streams', false],
  ])('is chosen by Accept: %s – %s', async (accept, isStream) => {
    const { url, bearer } = await call()
    const abort = new AbortController()
    const answer = await fetch(url, {
      headers: { Accept: accept, Authorization: `Bearer ${bearer}` },
      signal: abort.signal,
    })
    expect(answer.headers.get('Content-Type')).toBe(isStream ? 'text/event-stream' : 'application/json')
    abort.abort()
  })

  test('can be resumed from allowed origins', async () => {
    const { url } = await call()
    const preflight = await fetch(url, {
      method: 'OPTIONS',
      headers: {
        Origin: 'http://localhost:3000',
        'Access-Control-Request-Method': 'GET',
        'Access-Control-Request-Headers': 'authorization,last-event-id',
      },
    })
    expect(preflight.headers.get('Access-Control-Allow-Headers')?.toLowerCase()).toContain('last-event-id')
  })

  test('is not started by HEAD', async () => {
    const { url, bearer, s } = await call()
    for (let i = 0; i < 25; i++) {
      const headers = { Accept: 'text/event-stream', Authorization: `Bearer ${bearer}` }
      const answer = await fetch(url, { method: 'HEAD', headers })
      expect([answer.status, answer.headers.get('Content-Type')]).toEqual([200, 'text/event-stream'])
    }
    await s.streams.close()
  })
})

test('the store notifies watchers of agent events and status changes after the commit, until they unsubscribe', async () => {
  const { s, pair, end, report } = await call()
  const seen: Array<Promise<number>> = []
  const read = async () => (await s.store.events.page(pair.sessionId, 0, 100)).length
  const unsubscribe = s.store.events.subscribe(pair.sessionId, () => seen.push(read()))
  await report(1)
  expect(await Promise.all(seen)).toEqual([1, 2])
  unsubscribe()
  await end()
  expect(await read()).toBe(3)
  expect(seen).toHaveLength(2)
})
