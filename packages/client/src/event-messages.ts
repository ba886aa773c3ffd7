import { createParser, type EventSourceMessage } from 'eventsource-parser'

/** Three of the service's heartbeats: a connection that is silent this long is dead. */
const SILENCE_MS = 45_000

interface MessagesOptions {
  onRetry: (ms: number) => void
  signal?: AbortSignal | undefined
}

/** The messages of one Server-Sent Events body, until it ends; the body is closed in any case. */
export async function* messages(
  body: ReadableStream<Uint8Array>,
  { onRetry, signal }: MessagesOptions,
): AsyncGenerator<EventSourceMessage, void, void> {
  const parsed: EventSourceMessage[] = []
  const parser = createParser({ onEvent: (message) => parsed.push(message), onRetry })
  const decoder = new TextDecoder()
  const reader = body.getReader()
  // A custom fetch may ignore signals; cancelling ends a pending read.
  const cancel = () => void reader.cancel().catch(() => {})
  signal?.addEventListener('abort', cancel, { once: true })
  try {
    while (!signal?.aborted) {
      const silence = setTimeout(cancel, SILENCE_MS)
      const { done, value } = await reader.read().finally(() => clearTimeout(silence))
      if (done) return
      parser.feed(decoder.decode(value, { stream: true }))
      yield* parsed.splice(0)
    }
  } finally {
    signal?.removeEventListener('abort', cancel)
    cancel()
  }
}
