import { createAdaptorServer } from '@hono/node-server'
import { describe, expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import { agentClient, type SessionEvent, userClient } from '#client'
import { newDatabase } from './database.ts'
import { directSessions } from './direct-sessions.ts'
import { failure, faultyFetch, quickClock, unreachable } from './faulty-fetch.ts'
import { type Scene, scene } from './scene.ts'
import { makeApp } from './support.ts'

const url = 'http://behalf.test'

interface CallOptions {
  databaseUrl?: string
  onWait?: (s: Scene, count: number) => unknown
}

/** A frontend whose session is live, and an agent that reports events. */
async function call({ onWait, ...options }: CallOptions = {}) {
  const s = await scene(options)
  const network = faultyFetch(s.app)
  const { clock, waits } = quickClock(s.clock, (count) => onWait?.(s, count))
  const client = userClient({ url, fetch: network.fetch, clock })
  const { id: userId } = await client.guest()
  const { session_id, participant_token } = await client.joinToken()
  const sessionId = String(session_id)
  s.sfu.join(participant_token)
  const agent = agentClient({ url, ...(await s.newAgent()), fetch: s.app.request, clock }).session({
    userId,
    sessionId,
  })
  const path = `/sessions/${sessionId}/events`
  return {
    s,
    client,
    network,
    waits,
    sessionId,
    path,
    /** `Last-Event-ID` of each connection. */
    opened: () => network.sentTo(path).map(({ headers }) => headers.get('Last-Event-ID')),
    report: (step: number) => agent.progress({ step }),
    end: () => agent.end(),
  }
}

const Step = z.object({ step: z.number() })
/** The number in the agent's event, if it is a progress event. */
const stepOf = ({ data }: SessionEvent) => Step.safeParse(data).data?.step
const steps = (events: SessionEvent[]) => events.flatMap((event) => stepOf(event) ?? [])
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

async function all(events: AsyncIterable<SessionEvent>, onEvent: (event: SessionEvent) => unknown = () => {}) {
  const seen: SessionEvent[] = []
  for await (const event of events) {
    seen.push(event)
    await onEvent(event)
  }
  return seen
}

/** The connection breaks after so many chunks. */
const cutAfter = (chunks: number) => async (reach: () => Promise<Response>) => {
  const { body, headers } = await reach()
  let left = chunks
  const cut = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      if (left-- > 0) controller.enqueue(chunk)
      else controller.error(new TypeError('terminated'))
    },
  })
  return new Response(body?.pipeThrough(cut) ?? null, { headers })
}

const stream = (text: string) => new Response(text, { headers: { 'Content-Type': 'text/event-stream' } })
const closing = (reason: string) => () => stream(`retry: 1000\n\nevent: close\ndata: {"reason":"${reason}"}\n\n`)

describe('the client’s event stream', () => {
  test('yields past events, then new ones, and finishes with the session', async () => {
    const { client, sessionId, report, end, opened } = await call()
    await report(1)
    const seen = await all(client.events(sessionId), async (event) => {
      if (stepOf(event) === 1) await report(2)
      if (stepOf(event) === 2) await end()
    })
    expect(steps(seen)).toEqual([1, 2])
    expect(seen.map(({ seq }) => seq)).toEqual(upTo(seen.length))
    expect(seen.at(-1)).toMatchObject({ type: 'session.status', data: { status: 'ended' } })
    expect(opened()).toEqual(['0'])
  })

  test('starts after the given cursor', async () => {
    const { client, sessionId, report, end } = await call()
    await report(1)
    await report(2)
    await end()
    const [first, second, third] = await all(client.events(sessionId))
    expect(await all(client.events(sessionId, { after: Number(third?.seq) }))).not.toContainEqual(third)
    expect(await all(client.events(sessionId, { after: Number(first?.seq) }))).toContainEqual(second)
  })

  test('yields every event once and in order over five broken connections', async () => {
    const { client, network, path, sessionId, report, end, opened } = await call()
    for (const step of upTo(5)) await report(step)
    network.plan(path, cutAfter(2), cutAfter(1), cutAfter(2), cutAfter(3), cutAfter(2))
    const seen = await all(client.events(sessionId), async (event) => {
      const step = stepOf(event) ?? 0
      if (step >= 5 && step < 40) await report(step + 1)
      if (step === 40) await end()
    })
    expect(steps(seen)).toEqual(upTo(40))
    expect(opened()).toHaveLength(6)
  })

  test('continues with a fresh token when the old one has expired', async () => {
    const { s, client, network, sessionId, end, report, opened } = await call()
    await report(1)
    const seen = await all(client.events(sessionId), async (event) => {
      if (stepOf(event) === 1) {
        s.clock.advance(15 * 60)
        await report(2)
      }
      if (stepOf(event) === 2) await end()
    })
    expect(steps(seen)).toEqual([1, 2])
    expect(opened()).toEqual(['0', '2'])
    expect(network.sentTo('/auth/refresh')).toHaveLength(1)
  })

  test.each(['token_expired', 'signed_out', 'slow_reader', 'shutting_down'])('continues after %s', async (reason) => {
    const { client, network, path, sessionId, report, end } = await call()
    await report(1)
    await end()
    network.plan(path, closing(reason))
    expect(steps(await all(client.events(sessionId)))).toEqual([1])
  })

  test('repeats no event when a proxy drops Last-Event-ID', async () => {
    const { client, network, path, sessionId } = await call()
    const events = upTo(3).map((seq) => `data: {"seq":${seq},"type":"progress","data":{"step":${seq}}}\n\n`)
    const begin = () => stream(events.slice(0, 2).join(''))
    network.plan(path, begin, () => stream(`${events.join('')}event: close\ndata: {"reason":"ended"}\n\n`))
    expect(steps(await all(client.events(sessionId)))).toEqual([1, 2, 3])
  })

  test('backs off while the service fails', async () => {
    const { client, network, path, sessionId, report, end, waits } = await call()
    await report(1)
    await end()
    const busy = () => new Response('{"code":"busy"}', { status: 503, headers: { 'Retry-After': '20' } })
    network.plan(path, unreachable, unreachable, unreachable, unreachable, busy, closing('shutting_down'))
    expect(steps(await all(client.events(sessionId)))).toEqual([1])
    expect(waits).toHaveLength(6)
    const [first = 0, , third = 0, fourth = 0, fifth] = waits
    expect(first).toBeGreaterThanOrEqual(500)
    expect(third).toBeGreaterThan(first)
    expect(fourth).toBeGreaterThanOrEqual(4_000)
    expect(fifth).toBe(20_000)
  })

  test('continues after the service restarts on the same data', async () => {
    const databaseUrl = await newDatabase({ lasts: true })
    let stopped: Promise<void> | undefined
    const { s, client, network, sessionId, report, opened } = await call({ databaseUrl, onWait: restart })
    async function restart() {
      await stopped
      await s.store.close()
      const { app, store } = await makeApp({ databaseUrl })
      network.app = app
      await directSessions(store).end(sessionId, 'user')
    }
    await report(1)
    const seen = await all(client.events(sessionId), (event) => {
      if (stepOf(event) === 1) stopped = s.streams.close()
    })
    expect(seen.map(({ seq }) => seq)).toEqual(upTo(3))
    expect(seen.at(-1)).toMatchObject({ data: { status: 'ended' } })
    expect(opened()).toEqual(['0', '2'])
  })

  test.each([
    ['another user', 'session_not_found'],
    ['a client that is not signed in', 'not_signed_in'],
  ])('throws for %s', async (who, code) => {
    const { client, sessionId, network } = await call()
    const stranger = userClient({ url, fetch: network.fetch })
    if (who === 'another user') await stranger.guest()
    expect(await failure(all(stranger.events(sessionId)))).toMatchObject({ code })
    expect(await client.sessions.get(sessionId)).toMatchObject({ id: sessionId })
  })

  test('stops when its signal aborts, also while it waits for the next event', async () => {
    const { client, sessionId, report } = await call()
    await report(1)
    const stop = new AbortController()
    const reason = new Error('left the page')
    const iterator = client.events(sessionId, { signal: stop.signal })
    await iterator.next()
    await iterator.next()
    const next = failure(iterator.next())
    stop.abort(reason)
    expect(await next).toBe(reason)
  })

  test('closes its connection when the caller leaves the loop', async () => {
    const { client, network, path, sessionId, report } = await call()
    await report(1)
    let cancelled = () => {}
    const gone = new Promise<void>((resolve) => {
      cancelled = resolve
    })
    network.plan(path, async (reach) => {
      const { body, headers } = await reach()
      const reader = body?.getReader()
      const watched = new ReadableStream<Uint8Array>({
        async pull(controller) {
          const chunk = await reader?.read()
          if (chunk?.value) controller.enqueue(chunk.value)
        },
        cancel: cancelled,
      })
      return new Response(watched, { headers })
    })
    for await (const event of client.events(sessionId)) {
      expect(event.seq).toBe(1)
      break
    }
    await gone
  })

  test('works over a real connection with the global fetch', async () => {
    const s = await scene()
    const server = createAdaptorServer({ fetch: s.app.fetch })
    onTestFinished(() => void server.close())
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
    const address = server.address()
    const client = userClient({ url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}` })
    await client.guest()
    const sessionId = String((await client.joinToken()).session_id)
    const stop = new AbortController()
    const left = failure(all(client.events(sessionId, { signal: stop.signal }), () => stop.abort(new Error('left'))))
    const seen = all(client.events(sessionId))
    expect(await client.sessions.end(sessionId)).toMatchObject({ status: 'ended' })
    expect(await seen).toMatchObject([{ seq: 1, data: { status: 'ended' } }])
    expect(await left).toMatchObject({ message: 'left' })
  })
})
