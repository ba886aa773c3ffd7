import type { Logger } from 'pino'
import type { VerifiedUserToken } from '../auth/tokens.ts'
import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import type { EventStore, Session, SessionEvent, SessionStore } from '../store/sessions.ts'
import type { UserStore } from '../store/users.ts'
import { eventResponse } from './json.ts'

/** Why the server closes a stream: `data.reason` of its last event, `close`. */
export type CloseReason = 'ended' | 'token_expired' | 'signed_out' | 'slow_reader' | 'shutting_down'

/** Milliseconds. */
export interface StreamTiming {
  /** A comment after this much silence, so that proxies keep the connection and a dead one is noticed. */
  heartbeat: number
  /** How often the store is read again without a hint. */
  poll: number
  /** A reader that has read nothing for this long is dropped. */
  stall: number
  /** How long it then has to read the last event before its connection is cut. */
  goodbye: number
}

export const STREAM_TIMING: StreamTiming = { heartbeat: 15_000, poll: 3_000, stall: 30_000, goodbye: 5_000 }

interface EventStreamDeps {
  events: Pick<EventStore, 'page' | 'subscribe'>
  sessions: Pick<SessionStore, 'find'>
  users: Pick<UserStore, 'isSignedIn'>
  /** `WRAP_UP_SECONDS`: how long a session that ended because its user left may still get events. */
  wrapUpMs: number
  log: Pick<Logger, 'warn'>
  clock: Clock
}

interface EventStreamRequest {
  sessionId: string
  /** The `seq` of the last event that the client has. */
  after: number
  /** Its access token: the stream ends with it. */
  token: VerifiedUserToken
  /** Destroys the connection, which cancels the body. Absent in a request without a connection, as in tests. */
  cut?: (() => void) | undefined
}

interface EventStream {
  /** Server-Sent Events, produced as they are read. */
  body: ReadableStream<Uint8Array>
  /** Finishes the pending chunk, then sends the `close` event. */
  close(reason: CloseReason): void
  /** Resolves when the stream has released all its resources. */
  gone: Promise<void>
}

/** Events per read; fewer when they are large, so that a stream holds 256 KiB at most. */
const PAGE_EVENTS = 16
const GREETING = 'retry: 1000\n\n'
const HEARTBEAT = ': \n\n'

const eventText = (event: SessionEvent) => `id: ${event.seq}\ndata: ${JSON.stringify(eventResponse(event))}\n\n`
const closeText = (reason: CloseReason) => `event: close\ndata: ${JSON.stringify({ reason })}\n\n`

/**
 * One session's events as Server-Sent Events (WHATWG HTML §9.2). It keeps only a cursor and reads the store a page at a
 * time, when the reader wants more. The reader sets the pace; a hint from the store only ends the wait.
 */
function createEventStream(
  { events, sessions, users, wrapUpMs, log, clock }: EventStreamDeps,
  { sessionId, after, token, cut }: EventStreamRequest,
  timing: StreamTiming,
): EventStream {
  const encoder = new TextEncoder()
  const expiresIn = token.expiresAt * 1000 - clock.now()
  const until = clock.latest() + expiresIn
  let cursor = after
  let greeted = false
  let closing: CloseReason | undefined
  let isGone = false
  let isHinted = false
  let wake = () => {}
  let sentAt = performance.now()
  let goodbye: NodeJS.Timeout | undefined
  let settleGone = () => {}
  const gone = new Promise<void>((resolve) => {
    settleGone = resolve
  })
  const unsubscribe = events.subscribe(sessionId, hint)
  // A body that is never read must not be held forever either.
  let stall = setTimeout(close, timing.stall, 'slow_reader')

  function hint(): void {
    isHinted = true
    wake()
  }

  /** Waits for a hint, or until the next poll, heartbeat or token expiry. */
  function hintOrTimer(): Promise<void> {
    if (isHinted) return Promise.resolve()
    const untilHeartbeat = sentAt + timing.heartbeat - performance.now()
    const milliseconds = Math.min(timing.poll, untilHeartbeat, until - clock.latest())
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(1, Math.ceil(milliseconds)))
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  async function next(): Promise<{ text: string; isLast?: true }> {
    if (!greeted) {
      greeted = true
      return { text: GREETING }
    }
    while (!isGone) {
      isHinted = false
      if (clock.latest() >= until) closing ??= 'token_expired'
      else if (!(await users.isSignedIn(token.signInId, token.userId, clock.latest()))) closing ??= 'signed_out'
      if (closing) return { text: closeText(closing), isLast: true }
      // Read before the page: a final session gets no more events, so an empty page then means that all were sent.
      const session = await sessions.find(sessionId)
      const page = await events.page(sessionId, cursor, PAGE_EVENTS)
      const last = page.at(-1)
      if (last) {
        cursor = last.seq
        return { text: page.map(eventText).join('') }
      }
      if (session && !isFinal(session)) {
        if (performance.now() - sentAt >= timing.heartbeat) return { text: HEARTBEAT }
        await hintOrTimer()
      } else closing ??= 'ended'
    }
    return { text: '', isLast: true }
  }

  function isFinal({ endedAt, endReason }: Session): boolean {
    return endedAt !== null && (endReason !== 'left' || clock.now() >= endedAt + wrapUpMs)
  }

  function close(reason: CloseReason): void {
    if (isGone || closing) return
    closing = reason
    clearTimeout(stall)
    goodbye = setTimeout(cutOff, timing.goodbye)
    hint()
  }

  function cutOff(): void {
    release()
    if (cut) cut()
    else controller?.error(new Error('The stream was cut.'))
  }

  function release(): void {
    if (isGone) return
    isGone = true
    clearTimeout(stall)
    clearTimeout(goodbye)
    unsubscribe()
    wake()
    settleGone()
  }

  let controller: ReadableStreamDefaultController<Uint8Array> | undefined
  const body = new ReadableStream<Uint8Array>(
    {
      start(started) {
        controller = started
      },
      async pull(pulled) {
        clearTimeout(stall)
        try {
          const { text, isLast } = await next()
          if (isGone) return
          pulled.enqueue(encoder.encode(text))
          sentAt = performance.now()
          if (!isLast) {
            if (!closing) stall = setTimeout(close, timing.stall, 'slow_reader')
            return
          }
          pulled.close()
          release()
        } catch (err) {
          log.warn({ err, sessionId }, 'event stream failed; the client can resume')
          cutOff()
        }
      },
      cancel: release,
    },
    // Without its own queue, the body is pulled only when the connection has room.
    { highWaterMark: 0 },
  )
  return { body, close, gone }
}

/** Allows for several tabs on several devices. */
const MAX_PER_USER = 20

/** All event streams that this process has open. */
export interface EventStreams {
  /** @throws AppError `too_many_streams`, or `busy` when the service is stopping */
  open(request: EventStreamRequest): ReadableStream<Uint8Array>
  /** Tells every reader that the service is stopping; resolves when every stream has closed. */
  close(): Promise<void>
}

/** `timing` is for tests. */
export function createEventStreams(deps: EventStreamDeps, timing = STREAM_TIMING): EventStreams {
  const open = new Map<string, Set<EventStream>>()
  let isStopping = false

  return {
    open(request) {
      const { userId } = request.token
      if (isStopping) throw new AppError('busy', 'The service is stopping.', { retryAfterSeconds: 1 })
      const ofUser = open.get(userId) ?? new Set()
      if (ofUser.size >= MAX_PER_USER) {
        throw new AppError('too_many_streams', `You already have ${MAX_PER_USER} open streams: close one.`, {
          retryAfterSeconds: 5,
        })
      }
      const stream = createEventStream(deps, request, timing)
      open.set(userId, ofUser.add(stream))
      stream.gone.then(() => {
        ofUser.delete(stream)
        if (ofUser.size === 0 && open.get(userId) === ofUser) open.delete(userId)
      })
      return stream.body
    },
    async close() {
      isStopping = true
      const all = [...open.values()].flatMap((ofUser) => [...ofUser])
      for (const stream of all) stream.close('shutting_down')
      await Promise.all(all.map(({ gone }) => gone))
    },
  }
}
