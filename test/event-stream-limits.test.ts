import { describe, expect, test, vi } from 'vitest'
import type { EventStore } from '../src/store/sessions.ts'
import { directSessions } from './direct-sessions.ts'
import { refusal } from './scene.ts'
import { lazyReader, openStream, requestStream } from './stream-client.ts'
import { timedCall } from './stream-scene.ts'

/** Together more than the buffers of one connection hold. */
const EVENTS = 400
const SIZE = 60_000
const soon = { timeout: 15_000, interval: 5 }
vi.setConfig({ testTimeout: 20_000 })

describe('an idle event stream', () => {
  test('sends comments as heartbeats', async () => {
    const stream = await (await timedCall({ heartbeat: 20 })).open()
    await stream.until(() => expect(stream.comments).toBeGreaterThan(3))
    expect(stream.text).toContain('\n\n: \n\n: \n\n')
    expect(stream.closed).toBeUndefined()
  })

  test('sends no heartbeat while it sends events', async () => {
    const { open, report } = await timedCall({ heartbeat: 60_000 })
    const stream = await open()
    await report(100)
    await stream.until(() => expect(stream.events).toHaveLength(102))
    expect(stream.comments).toBe(0)
  })

  test('polls the store even without a notification', async () => {
    const { open, report } = await timedCall({ poll: 10 }, { subscribe: () => () => {} })
    const stream = await open()
    await stream.until(() => expect(stream.events).toHaveLength(2))
    await report(1)
    await stream.until(() => expect(stream.events).toHaveLength(3))
  })

  test('causes no reads beyond the poll', async () => {
    const { open, counts } = await timedCall({ heartbeat: 20 })
    const stream = await open()
    await stream.until(() => expect(stream.comments).toBeGreaterThan(10))
    expect(counts.pages).toBeLessThan(3 * stream.comments)
  })
})

describe('the access token of an event stream', () => {
  test.each([0, -60])('ends the stream when it expires, despite a clock step of %d s', async (step) => {
    const { s, open, report } = await timedCall({ poll: 10 })
    const stream = await open()
    await stream.until(() => expect(stream.events).toHaveLength(2))
    s.clock.advance(15 * 60 - 2)
    await report(1)
    await stream.until(() => expect(stream.events).toHaveLength(3))
    s.clock.step(step)
    s.clock.advance(2)
    expect(await stream.over).toBe(true)
    expect(stream.closed).toEqual({ reason: 'token_expired' })
    expect(stream.events).toHaveLength(3)
  })

  test('ends the stream at its expiry, not at the next poll', async () => {
    const { s, open } = await timedCall({ poll: 60_000 })
    s.clock.advance(15 * 60 - 1)
    const stream = await open()
    await stream.until(() => expect(stream.events).toHaveLength(2))
    // The timer is real, the clock is not.
    s.clock.advance(1)
    expect(await stream.over).toBe(true)
    expect(stream.closed).toEqual({ reason: 'token_expired' })
  })
})

describe('a client that does not read its event stream', () => {
  test('pauses the service’s reads, and is told why it was disconnected', async () => {
    const c = await timedCall({ stall: 300, goodbye: 60_000 })
    await c.report(EVENTS, SIZE)
    const reader = await lazyReader(c.url, c)
    await vi.waitFor(() => expect(c.counts.pages).toBeGreaterThan(1), soon)
    // The stall is long over when the pages stand still.
    let pages = -1
    await vi.waitFor(
      () => {
        const before = pages
        pages = c.counts.pages
        expect(pages).toBe(before)
      },
      { timeout: 15_000, interval: 600 },
    )
    expect(pages).toBeLessThan(EVENTS / 16)
    const text = await reader.readAll()
    expect(text).toMatch(/event: close\ndata: \{"reason":"slow_reader"\}\n\n\r\n0\r\n\r\n$/)
    const ids = [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))
    expect(ids).toEqual(Array.from({ length: ids.length }, (_, i) => i + 1))
    expect(ids.length).toBeLessThan(EVENTS)
    await vi.waitFor(() => expect(c.counts.listeners).toBe(0), soon)
  })

  test('is cut off when it does not even read that', async () => {
    const c = await timedCall({ stall: 200, goodbye: 50 })
    await c.report(EVENTS, SIZE)
    const reader = await lazyReader(c.url, c)
    await vi.waitFor(() => expect(c.counts.listeners).toBe(1), soon)
    await vi.waitFor(() => expect(c.counts.listeners).toBe(0), soon)
    expect(await reader.readAll()).not.toContain('event: close')
  })

  test('is disconnected even while further events are stored', async () => {
    const c = await timedCall({ stall: 300, goodbye: 50 })
    await c.report(EVENTS, SIZE)
    await lazyReader(c.url, c)
    await vi.waitFor(() => expect(c.counts.pages).toBeGreaterThan(1), soon)
    await vi.waitFor(
      async () => {
        await c.report(1)
        expect(c.counts.listeners).toBe(0)
      },
      { timeout: 15_000, interval: 20 },
    )
  })

  test('does not delay other clients', async () => {
    const c = await timedCall({ stall: 60_000 })
    await lazyReader(c.url, c)
    await c.report(EVENTS, SIZE)
    const stream = await c.open()
    await stream.until(() => expect(stream.events).toHaveLength(EVENTS + 2))
  })

  test('is not confused with one that has no events to read', async () => {
    const { open, report } = await timedCall({ stall: 30, heartbeat: 200 })
    const stream = await open()
    await stream.until(() => expect(stream.comments).toBe(2))
    await report(1)
    await stream.until(() => expect(stream.events).toHaveLength(3))
    expect(stream.closed).toBeUndefined()
  })
})

describe('open event streams', () => {
  test('release everything when their clients disconnect', async () => {
    const { open, counts } = await timedCall()
    const opened = await Promise.all(Array.from({ length: 10 }, open))
    for (const stream of opened) await stream.until(() => expect(stream.events).toHaveLength(2))
    expect(counts.listeners).toBe(10)
    for (const stream of opened) stream.stop()
    await vi.waitFor(() => expect(counts.listeners).toBe(0), soon)
  })

  test('are at most 20 for one user', async () => {
    const { s, server, url, bearer, open, counts } = await timedCall()
    const opened = await Promise.all(Array.from({ length: 20 }, open))
    const answer = await requestStream(url, { bearer })
    expect(answer.headers.get('Retry-After')).toBe('5')
    expect(await refusal(answer)).toEqual({ status: 429, code: 'too_many_streams' })
    const other = await s.present()
    const theirs = await openStream(`${server}/sessions/${other.pair.sessionId}/events`, other.user)
    opened[0]?.stop()
    await vi.waitFor(() => expect(counts.listeners).toBe(20), soon)
    const again = await open()
    await again.until(() => expect(again.events).toHaveLength(2))
    theirs.stop()
  })

  test('are told that the service stops, and new ones are refused', async () => {
    const { url, bearer, open, streams, counts } = await timedCall()
    const opened = await Promise.all(Array.from({ length: 5 }, open))
    for (const stream of opened) await stream.until(() => expect(stream.events).toHaveLength(2))
    await streams.close()
    for (const stream of opened) {
      expect(await stream.over).toBe(true)
      expect(stream.closed).toEqual({ reason: 'shutting_down' })
    }
    expect(counts.listeners).toBe(0)
    expect(await refusal(requestStream(url, { bearer }))).toEqual({ status: 503, code: 'busy' })
  })

  test('do not delay the service’s stop when a client does not read', async () => {
    const c = await timedCall({ goodbye: 50 })
    await c.report(EVENTS, SIZE)
    await lazyReader(c.url, c)
    await vi.waitFor(() => expect(c.counts.pages).toBeGreaterThan(1), soon)
    await c.streams.close()
    expect(c.counts.listeners).toBe(0)
  })

  test('miss no event when the session ends between two reads', async () => {
    const endAfterPage: EventStore['page'] = async (...args) => {
      const page = await c.s.store.events.page(...args)
      await directSessions(c.s.store).end(c.pair.sessionId, 'user')
      return page
    }
    const c = await timedCall({}, { page: endAfterPage })
    const stream = await c.open()
    expect(await stream.over).toBe(true)
    expect(stream.events.at(-1)?.data).toEqual({ status: 'ended', reason: 'user' })
  })

  test('are closed when the store fails, without losing events', async () => {
    let fail = false
    const c = await timedCall(
      {},
      {
        page: (...args) => (fail ? Promise.reject(new Error('disk I/O error')) : c.s.store.events.page(...args)),
      },
    )
    const stream = await c.open()
    await stream.until(() => expect(stream.events).toHaveLength(2))
    fail = true
    await c.report(1)
    expect(await stream.over).toBe(false)
    expect(stream.closed).toBeUndefined()
    expect(c.counts.listeners).toBe(0)
    fail = false
    const next = await openStream(c.url, { bearer: c.bearer, headers: { 'Last-Event-ID': stream.ids.at(-1) ?? '' } })
    await next.until(() => expect(next.ids).toEqual(['3']))
  })
})
