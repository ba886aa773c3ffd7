import { PassThrough, Readable, type Writable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import type { Logger } from 'pino'
import type { VerifiedUserToken } from '../auth/tokens.ts'
import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import { ServiceResponse } from '../http/server.ts'
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
}

interface EventStream {
  /** Begins to write. */
  start(): void
  /** Finishes the pending chunk, then sends the `close` event. */
  close(reason: CloseReason): void
}

/** Events per read; fewer when they are large, so that a stream holds 256 KiB at most. */
const PAGE_EVENTS = 16
const GREETING = 'retry: 1000\n\n'
const HEARTBEAT = ': \n\n'

const eventText = (event: SessionEvent) => `id: ${event.seq}\ndata: ${JSON.stringify(eventResponse(event))}\n\n`
const closeText = (reason: CloseReason) => `event: close\ndata: ${JSON.stringify({ reason })}\n\n`

/**
 * Writes one session's events to `sink` as Server-Sent Events (WHATWG HTML §9.2). It keeps only a cursor and a timer, and
 * reads the store a page at a time, when the reader has taken the page before. `onGone` is called at the end.
 */
function createEventStream(
  { events, sessions, users, wrapUpMs, log, clock }: EventStreamDeps,
  { sessionId, after, token }: EventStreamRequest,
  sink: Writable,
  timing: StreamTiming,
  onGone: () => void,
): EventStream {
  const until = clock.latest() + token.expiresAt * 1000 - clock.now()
  let cursor = after
  let closing: CloseReason | undefined
  let isGone = false
  /** True until `start` as well: nothing may be written before the head. */
  let isAdvancing = true
  let isHinted = false
  let sentAt = performance.now()
  /** For the next poll; while the reader is behind, for closing the stream; after that, for cutting it off. */
  let timer: NodeJS.Timeout | undefined
  const unsubscribe = events.subscribe(sessionId, advance)
  sink.on('drain', advance).on('close', release)

  /** Sends all there is, until the reader is behind; a hint, the timer or the reader then continues. */
  async function advance(): Promise<void> {
    isHinted = true
    if (isAdvancing || sink.writableNeedDrain) return
    isAdvancing = true
    try {
      while (isHinted && !isGone && !sink.writableNeedDrain) {
        isHinted = false
        if (await sendNext()) isHinted = true
      }
    } catch (err) {
      log.warn({ err, sessionId }, 'event stream failed; the client can resume')
      cutOff()
    }
    isAdvancing = false
    if (!closing && !isGone) wait()
  }

  function wait(): void {
    clearTimeout(timer)
    if (sink.writableNeedDrain) timer = setTimeout(close, timing.stall, 'slow_reader')
    else {
      const untilHeartbeat = sentAt + timing.heartbeat - performance.now()
      const milliseconds = Math.min(timing.poll, untilHeartbeat, until - clock.latest())
      timer = setTimeout(advance, Math.max(1, Math.ceil(milliseconds)))
    }
  }

  /** True when there is more to send. */
  async function sendNext(): Promise<boolean> {
    if (clock.latest() >= until) closing ??= 'token_expired'
    else if (!(await users.isSignedIn(token.signInId, token.userId, clock.latest()))) closing ??= 'signed_out'
    const session = closing ? null : await sessions.find(sessionId)
    if (session && session.lastSeq > cursor) {
      const page = await events.page(sessionId, cursor, PAGE_EVENTS)
      cursor = page.at(-1)?.seq ?? session.lastSeq
      send(page.map(eventText).join(''))
      return cursor < session.lastSeq || isFinal(session)
    }
    if (session && !isFinal(session)) {
      if (performance.now() - sentAt >= timing.heartbeat) send(HEARTBEAT)
    } else if (!isGone) {
      sink.end(closeText(closing ?? 'ended'))
      release()
    }
    return false
  }

  function send(text: string): void {
    if (isGone) return
    sink.write(text)
    sentAt = performance.now()
  }

  function isFinal({ endedAt, endReason }: Session): boolean {
    return endedAt !== null && (endReason !== 'left' || clock.now() >= endedAt + wrapUpMs)
  }

  function close(reason: CloseReason): void {
    if (isGone || closing) return
    closing = reason
    clearTimeout(timer)
    timer = setTimeout(cutOff, timing.goodbye)
    void advance()
  }

  function cutOff(): void {
    release()
    sink.destroy()
  }

  function release(): void {
    if (isGone) return
    isGone = true
    clearTimeout(timer)
    unsubscribe()
    sink.off('drain', advance).off('close', release)
    onGone()
  }

  return {
    start() {
      // The client may be gone before the head is written.
      if (sink.destroyed) return release()
      send(GREETING)
      isAdvancing = false
      void advance()
    },
    close,
  }
}

/** Allows for several tabs on several devices. */
const MAX_PER_USER = 20

/** All event streams that this process has open. */
export interface EventStreams {
  /**
   * The body of the answer; null when `outgoing` is the service's own connection, to which the stream is written directly.
   * @throws AppError `too_many_streams`, or `busy` when the service is stopping
   */
  open(request: EventStreamRequest, outgoing?: object): ReadableStream | null
  /** How many are open. */
  count(): number
  /** Tells every reader that the service is stopping; resolves when every stream has closed. */
  close(): Promise<void>
}

/** `timing` is for tests. */
export function createEventStreams(deps: EventStreamDeps, timing = STREAM_TIMING): EventStreams {
  const open = new Map<string, Set<EventStream>>()
  let isStopping = false
  let onAllGone = () => {}

  return {
    open(request, outgoing) {
      const { userId } = request.token
      if (isStopping) throw new AppError('busy', 'The service is stopping.', { retryAfterSeconds: 1 })
      const ofUser = open.get(userId) ?? new Set()
      if (ofUser.size >= MAX_PER_USER) {
        throw new AppError('too_many_streams', `You already have ${MAX_PER_USER} open streams: close one.`, {
          retryAfterSeconds: 5,
        })
      }
      const direct = outgoing instanceof ServiceResponse ? outgoing : null
      const sink = direct ?? new PassThrough()
      const stream = createEventStream(deps, request, sink, timing, () => {
        ofUser.delete(stream)
        if (ofUser.size === 0 && open.get(userId) === ofUser) open.delete(userId)
        if (open.size === 0) onAllGone()
      })
      open.set(userId, ofUser.add(stream))
      if (direct) {
        direct.startStream = stream.start
        return null
      }
      stream.start()
      return Readable.toWeb(sink as PassThrough) as ReadableStream
    },
    count: () => [...open.values()].reduce((sum, ofUser) => sum + ofUser.size, 0),
    async close() {
      isStopping = true
      const allGone = new Promise<void>((resolve) => {
        onAllGone = resolve
      })
      for (const ofUser of [...open.values()]) for (const stream of [...ofUser]) stream.close('shutting_down')
      if (open.size > 0) await allGone
    },
  }
}
