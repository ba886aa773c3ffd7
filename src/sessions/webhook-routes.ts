import { createRoute, z } from '@hono/zod-openapi'
import { createMiddleware } from 'hono/factory'
import type { Clock } from '../clock.ts'
import type { KeyPair } from '../config.ts'
import { limitBody } from '../http/body.ts'
import { problems } from '../http/problem.ts'
import { type AppEnv, createRouter, jsonContent } from '../http/router.ts'
import type { ReportSkew } from '../livekit/clock-skew.ts'
import type { Participant } from '../livekit/livekit.ts'
import { createWebhookReceiver, WEBHOOK_REFUSALS } from '../livekit/webhook.ts'
import type { Webhook } from '../livekit/wire.ts'
import type { Metrics } from '../metrics.ts'
import type { SessionStore, Which } from '../store/sessions.ts'
import type { Background } from './background.ts'
import type { Fact } from './lifecycle.ts'
import { belongsTo, isUserOf } from './participants.ts'
import type { Sessions } from './sessions.ts'

interface WebhookRoutesDeps {
  /** The API key and secret that LiveKit signs with. */
  keys: KeyPair
  reportSkew: ReportSkew
  sessions: Sessions
  reconcileAgents: (room: string, lost: Participant) => Promise<void>
  store: SessionStore
  background: Background
  clock: Clock
  metrics: Pick<Metrics, 'webhooks' | 'webhookLag'>
}

interface WebhookEnv extends AppEnv {
  Variables: AppEnv['Variables'] & { signedHash: unknown }
}

const OUTCOMES = ['stored', 'duplicate', ...WEBHOOK_REFUSALS] as const

/** Bytes. LiveKit sends whole participants and rooms, including those of other applications. */
const MAX_WEBHOOK_BYTES = 1024 * 1024

/** LiveKit's webhooks: stored and answered at once; the work that follows from them runs afterwards. */
export function webhookRoutes(deps: WebhookRoutesDeps) {
  const { keys, reportSkew, sessions, reconcileAgents, store, background, clock, metrics } = deps
  const count = (outcome: (typeof OUTCOMES)[number], by = 1) => metrics.webhooks.inc({ outcome }, by)
  for (const outcome of OUTCOMES) count(outcome, 0)
  const receiver = createWebhookReceiver(keys, clock.now, reportSkew, count)

  async function subjectOf({ event, participant, room }: Webhook): Promise<About> {
    const at = clock.steady()
    if (event === 'room_finished' && room?.sid) {
      return { which: { unfinishedIn: room.name }, fact: { kind: 'room_finished', roomSid: room.sid, at } }
    }
    // An agent that left by itself may have finished its job; any other was lost, as LiveKit has just noticed.
    if (event === 'participant_left' && participant?.isAgent && participant.disconnectReason !== 'CLIENT_INITIATED') {
      if (room) background.run('agents', () => reconcileAgents(room.name, participant))
      return NOTHING
    }
    const sessionId = participant?.attributes.sessionId
    if (!participant?.sid || !room || sessionId === undefined) return NOTHING
    const known = await store.load(sessionId)
    if (known?.session.room !== room.name) return NOTHING
    const { session } = known
    if (session.endedAt !== null) {
      // LiveKit hands connected clients fresh tokens, so a removed participant can come back.
      if (event === 'participant_joined' && belongsTo(session, participant)) {
        background.run('remove', () => sessions.removal.remove(session))
      }
      return NOTHING
    }
    if (!isUserOf(session, participant)) return NOTHING
    const { sid, isSip, isActive, hasKnownState, disconnectReason } = participant
    if (event === 'participant_joined' && !(isSip ? isActive : hasKnownState)) return NOTHING
    // An unanswered phone leaves the room too, without having joined.
    const name = event === 'participant_left' && isSip ? 'participant_connection_aborted' : event
    const fact = participantFact(name, { sid, roomSid: room.sid, at }, disconnectReason)
    return fact ? { which: { known }, fact } : NOTHING
  }

  const router = createRouter<WebhookEnv>()
  const signed = createMiddleware<WebhookEnv>(async function signed(c, next) {
    c.set('signedHash', receiver.verify(c.req.header('Authorization')))
    await next()
  })
  return router.openapi(
    createRoute({
      method: 'post',
      path: '/livekit/webhook',
      operationId: 'receiveWebhook',
      tags: ['LiveKit'],
      summary: 'LiveKit’s signed events',
      security: [{ livekitWebhook: [] }],
      middleware: [signed, limitBody(MAX_WEBHOOK_BYTES)] as const,
      responses: {
        200: {
          description: 'Stored.',
          content: jsonContent(z.object({ received: z.literal(true).describe('Stored, now or before.') })),
        },
        ...problems('invalid_token', 'malformed_json', 'body_too_large', 'store_unavailable'),
      },
    }),
    async (c) => {
      const webhook = receiver.open(await c.req.text(), c.var.signedHash)
      const { which, fact } = await subjectOf(webhook)
      const receivedAt = clock.now()
      const isNew = await sessions.receive({ id: webhook.id, receivedAt }, which, fact)
      count(isNew ? 'stored' : 'duplicate')
      // LiveKit's clock may be ahead of this machine's.
      if (isNew) metrics.webhookLag.observe(Math.max(0, receivedAt / 1000 - webhook.createdAt))
      return c.json({ received: true as const }, 200)
    },
  )
}

/** Which sessions a webhook is about, and what it says about them. */
interface About {
  which: Which | null
  fact: Fact | null
}

const NOTHING: About = { which: null, fact: null }

function participantFact(
  event: string,
  seen: { sid: string; roomSid: string; at: number },
  reason: string,
): Fact | null {
  switch (event) {
    case 'participant_joined':
      return { kind: 'joined', ...seen }
    case 'participant_left':
      return { kind: 'left', ...seen, reason, aborted: false }
    case 'participant_connection_aborted':
      return { kind: 'left', ...seen, reason, aborted: true }
    default:
      return null
  }
}
