import type { Clock } from '../clock.ts'
import type { LiveKit } from '../livekit/livekit.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { SessionStore } from '../store/sessions.ts'

interface HealthDeps {
  sessions: SessionStore
  livekit: LiveKit
  clock: Clock
}

type Up = 'ok' | 'unavailable'

export interface Health {
  /** Set once the store is open and the first reconcile was attempted; cleared at shutdown. */
  ready: boolean
  store(): Promise<{ status: Up; lastWebhookAt: number | null }>
  /** Queries LiveKit at most once every two seconds. */
  livekit(): Promise<Up>
}

const LIVEKIT_ANSWER_MS = 2000
/** A room that does not exist: the cheapest query that needs LiveKit to answer and accept the service's key. */
const NO_ROOM = 'behalf-health-check'

export function createHealth({ sessions, livekit, clock }: HealthDeps): Health {
  const once = createSingleFlight<Up>()
  let last: { at: number; status: Up } | undefined
  return {
    ready: false,
    store: () =>
      sessions.lastWebhookAt().then(
        (lastWebhookAt) => ({ status: 'ok', lastWebhookAt }),
        () => ({ status: 'unavailable', lastWebhookAt: null }),
      ),
    livekit: () =>
      once('livekit', async () => {
        if (last && clock.steady() - last.at < LIVEKIT_ANSWER_MS) return last.status
        const at = clock.steady()
        const status = await livekit.listRooms([NO_ROOM]).then(
          (): Up => 'ok',
          (): Up => 'unavailable',
        )
        last = { at, status }
        return status
      }),
  }
}
