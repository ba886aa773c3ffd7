import type { EventSourceMessage } from 'eventsource-parser'
import { messages } from './event-messages.ts'
import { ProblemError } from './problem.ts'
import { backoffMs, type Clock, isTransient, retryAfterMs } from './retry.ts'
import type { Api } from './transport.ts'
import type { CloseReason, SessionEvent } from './wire.ts'

export interface EventsOptions {
  /** `seq` of the last event that is already known; events after it are sent. */
  after?: number
  /** When aborted, the iteration rejects with the signal's reason. Leaving the loop also closes the stream. */
  signal?: AbortSignal
}

export interface EventsDeps {
  /** Signs its requests, with a fresh access token each time. */
  api: Api
  clock: Clock
}

/** How long the service may take to begin its answer. */
const OPEN_MS = 15_000
/** A connection that lasted this long counts as good, even without an event. */
const GOOD_MS = 10_000
const RETRY_MS = 1_000
const CLOSE = 'close'

/**
 * A session's events, each once and in order, until the session has ended and all have arrived. Resumes after reconnects.
 * @throws ProblemError that a retry would not change, such as `session_not_found` or `invalid_refresh_token`
 */
export async function* sessionEvents(
  { api, clock }: EventsDeps,
  sessionId: string,
  { after = 0, signal }: EventsOptions = {},
): AsyncGenerator<SessionEvent, void, void> {
  let seq = after
  let failures = 0
  let retryMs = RETRY_MS
  const onRetry = (ms: number) => {
    retryMs = ms
  }

  async function open(): Promise<ReadableStream<Uint8Array>> {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(), OPEN_MS)
    try {
      const { body } = await api.open('GET', `/sessions/${encodeURIComponent(sessionId)}/events`, {
        headers: { Accept: 'text/event-stream', 'Last-Event-ID': String(seq) },
        signal: signal ? AbortSignal.any([signal, late.signal]) : late.signal,
      })
      if (!body) throw new ProblemError('unexpected_answer', 'The stream of events has no body.')
      return body
    } finally {
      clearTimeout(timer)
    }
  }

  for (;;) {
    signal?.throwIfAborted()
    const openedAt = clock.now()
    const resumedFrom = seq
    let closed: CloseReason | undefined
    let failure: unknown
    try {
      for await (const message of messages(await open(), { onRetry, signal })) {
        if (message.event === CLOSE) {
          closed = closeReason(message)
          break
        }
        const event = sessionEvent(message)
        if (event.seq <= seq) continue
        seq = event.seq
        yield event
        signal?.throwIfAborted()
      }
    } catch (error) {
      signal?.throwIfAborted()
      if (error instanceof ProblemError && !isTransient(error) && error.status < 500) throw error
      failure = error
    }
    if (closed === 'ended') return

    const wasGood = seq > resumedFrom || clock.now() - openedAt >= GOOD_MS
    failures = wasGood ? 0 : failures + 1
    // The service asked for a new connection, so reconnect at once; any other end gets time to recover.
    const isAsked = wasGood && (closed === 'token_expired' || closed === 'signed_out' || closed === 'slow_reader')
    if (!isAsked) await clock.wait(Math.max(backoffMs(failures, retryMs), retryAfterMs(failure)), signal)
  }
}

// The shapes are the service's; they are not checked again here.
const sessionEvent = ({ data }: EventSourceMessage) => JSON.parse(data) as SessionEvent
const closeReason = ({ data }: EventSourceMessage) => (JSON.parse(data) as { reason: CloseReason }).reason
