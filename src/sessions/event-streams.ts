import { AppError } from '../errors.ts'
import {
  createEventStream,
  type EventStream,
  type EventStreamDeps,
  type EventStreamRequest,
  STREAM_TIMING,
} from './event-stream.ts'

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
