import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import { type LiveKit, LiveKitError, type LiveKitFailure } from '../livekit/livekit.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { SessionStore } from '../store/sessions.ts'

interface HealthDeps {
  sessions: SessionStore
  livekit: LiveKit
  clock: Clock
}

type Up = 'ok' | 'unavailable'

export interface LiveKitHealth {
  status: Up
  /** Why it is unavailable, and what to do about it. */
  kind?: LiveKitFailure
  message?: string
}

export interface Health {
  /** Set once the store is open and the first reconcile was attempted; cleared at shutdown. */
  ready: boolean
  store(): Promise<{ status: Up; lastWebhookAt: number | null }>
  /** Queries LiveKit at most once every two seconds. */
  livekit(): Promise<LiveKitHealth>
}

const LIVEKIT_ANSWER_MS = 2000
/** A room that does not exist: the cheapest query that needs LiveKit to answer and accept the service's key. */
const NO_ROOM = 'behalf-health-check'

export function createHealth({ sessions, livekit, clock }: HealthDeps): Health {
  const once = createSingleFlight<LiveKitHealth>()
  let last: { at: number; answer: LiveKitHealth } | undefined
  return {
    ready: false,
    store: () =>
      sessions.lastWebhookAt().then(
        (lastWebhookAt) => ({ status: 'ok', lastWebhookAt }),
        () => ({ status: 'unavailable', lastWebhookAt: null }),
      ),
    livekit: () =>
      once('livekit', async () => {
        if (last && clock.steady() - last.at < LIVEKIT_ANSWER_MS) return last.answer
        const at = clock.steady()
        const answer = await livekit.listRooms([NO_ROOM]).then((): LiveKitHealth => ({ status: 'ok' }), unavailable)
        last = { at, answer }
        return answer
      }),
  }
}

function unavailable(error: unknown): LiveKitHealth {
  const cause = error instanceof AppError ? error.cause : undefined
  return {
    status: 'unavailable',
    ...(cause instanceof LiveKitError ? { kind: cause.kind, message: cause.message } : {}),
  }
}
