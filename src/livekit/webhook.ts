import { createHash } from 'node:crypto'
import { jwtVerify } from 'jose'
import { WebhookEvent } from 'livekit-server-sdk'
import type { KeyPair } from '../config.ts'
import { AppError } from '../errors.ts'
import { hmacKey } from './hmac-key.ts'

/** What we read from a webhook; other kinds of event are `null` inside. */
export interface Webhook {
  /** LiveKit keeps it through its retries. */
  id: string
  event: string
  participant: {
    sid: string
    identity: string
    attributes: Record<string, string>
    isStandard: boolean
    disconnectReason: string
  } | null
  room: { sid: string; name: string } | null
}

/** livekit.ParticipantInfo.Kind STANDARD. */
const STANDARD = 0
const CLOCK_SKEW_SECONDS = 10

/**
 * Verifies LiveKit's signature over the raw body: HS256, the right key, not expired, and the body's own hash.
 * The header is the bare token (LiveKit docs, Webhooks). @throws AppError `invalid_token`, `malformed_json`
 */
export function webhookReceiver({ key, secret }: KeyPair, now: () => number) {
  const verifyingKey = hmacKey(secret, 'verify')

  return async function receive(body: string, authorization: string | undefined): Promise<Webhook> {
    const claimed = await claimedHash(authorization ?? '')
    const actual = createHash('sha256').update(body).digest('base64')
    if (claimed !== actual) throw new AppError('invalid_token', 'The webhook’s signature is for another body.')
    try {
      // Protobuf ignores what it does not know, so an object that is no event at all would pass: the id decides.
      const webhook = toWebhook(WebhookEvent.fromJsonString(body, { ignoreUnknownFields: true }))
      if (webhook.id === '') throw new Error('It has no id')
      return webhook
    } catch (cause) {
      throw new AppError('malformed_json', 'The webhook is not a livekit.WebhookEvent.', { cause })
    }
  }

  async function claimedHash(token: string): Promise<unknown> {
    try {
      const { payload } = await jwtVerify(token, await verifyingKey, {
        // Without this list an HS512 token, or one with another key's issuer, would do (RFC 8725 §3.1).
        algorithms: ['HS256'],
        issuer: key,
        requiredClaims: ['exp', 'sha256'],
        clockTolerance: CLOCK_SKEW_SECONDS,
        currentDate: new Date(now()),
      })
      return payload.sha256
    } catch {
      throw new AppError('invalid_token', 'The webhook’s signature is not valid.')
    }
  }
}

export type ReceiveWebhook = ReturnType<typeof webhookReceiver>

function toWebhook({ id, event, participant, room }: WebhookEvent): Webhook {
  return {
    id,
    event,
    room: room ? { sid: room.sid, name: room.name } : null,
    participant: participant
      ? {
          sid: participant.sid,
          identity: participant.identity,
          attributes: participant.attributes,
          isStandard: (participant.kind as number) === STANDARD,
          disconnectReason: String(participant.disconnectReason),
        }
      : null,
  }
}
