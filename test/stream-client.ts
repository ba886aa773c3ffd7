import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { createParser } from 'eventsource-parser'
import { expect, onTestFinished, vi } from 'vitest'
import type { z } from 'zod'
import { listen } from '../src/http/server.ts'
import { EventResponse } from '../src/sessions/json.ts'

/** The app behind a real server on this machine until the test is over; its URL. */
export async function listening(fetch: Parameters<typeof listen>[0]): Promise<string> {
  const server = listen(fetch, { host: '127.0.0.1', port: 0, connectionsPerAddress: 0, trustedProxies: [] })
  await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    await new Promise((closed) => server.close(closed))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

export interface StreamRequest {
  bearer: string
  headers?: Record<string, string>
}

export const requestStream = (url: string, { bearer, headers }: StreamRequest, signal?: AbortSignal) =>
  fetch(url, {
    headers: { Accept: 'text/event-stream', Authorization: `Bearer ${bearer}`, ...headers },
    ...(signal ? { signal } : {}),
  })

/** An open stream, read as fast as it comes. */
export async function openStream(url: string, request: StreamRequest) {
  const abort = new AbortController()
  const response = await requestStream(url, request, abort.signal)
  expect(response.status).toBe(200)
  const stream = {
    headers: response.headers,
    /** Every byte so far. */
    text: '',
    ids: [] as string[],
    events: [] as Array<z.infer<typeof EventResponse>>,
    comments: 0,
    /** `data` of the event `close`. */
    closed: undefined as unknown,
    /** Resolves with the body: true when it ended, false when it broke. */
    over: Promise.resolve(false),
    /** Disconnects. */
    stop: () => abort.abort(),
    until: (check: () => void) => vi.waitFor(check, { timeout: 15_000, interval: 5 }),
  }
  const parser = createParser({
    onComment: () => {
      stream.comments++
    },
    onEvent({ id, event, data }) {
      // The last event of all has a name and no id, so that a client resumes from the one before.
      expect([event, id === undefined]).toEqual(event === undefined ? [undefined, false] : ['close', true])
      if (event === 'close') stream.closed = JSON.parse(data)
      else {
        stream.ids.push(String(id))
        stream.events.push(EventResponse.strict().parse(JSON.parse(data)))
      }
    },
  })
  const decoder = new TextDecoder()
  const read = async () => {
    for await (const chunk of response.body ?? []) {
      const text = decoder.decode(chunk, { stream: true })
      stream.text += text
      parser.feed(text)
    }
    return true
  }
  stream.over = read().catch((error: unknown) => {
    if (error instanceof TypeError || abort.signal.aborted) return false
    throw error
  })
  return stream
}

export type Stream = Awaited<ReturnType<typeof openStream>>

/** A client that requests the stream and reads nothing until the test says so. */
export async function lazyReader(url: string, { bearer }: StreamRequest) {
  const { hostname, port, pathname } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port) }).pause()
  await once(socket, 'connect')
  const headers = [
    'Host: localhost',
    'Connection: close',
    'Accept: text/event-stream',
    `Authorization: Bearer ${bearer}`,
  ]
  socket.write(`GET ${pathname} HTTP/1.1\r\n${headers.join('\r\n')}\r\n\r\n`)
  return {
    /** All that it was sent, when it does read. */
    async readAll() {
      const chunks: Buffer[] = []
      socket.on('data', (chunk: Buffer) => chunks.push(chunk)).resume()
      const broke = once(socket, 'error').then(
        () => undefined,
        () => undefined,
      )
      await Promise.race([once(socket, 'close'), broke])
      return Buffer.concat(chunks).toString()
    },
  }
}
