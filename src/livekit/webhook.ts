import { createHash } from 'node:crypto'
import { jwtVerify } from 'jose'
import { WebhookEvent } from 'livekit-server-sdk'
import type { KeyPair } from '../config.ts'
import { AppError } from '../errors.ts'
import { hmacKey } from './hmac-key.ts'

/** What the service reads from a webhook; `participant` and `room` are null for events without them. */
export interface Webhook {
  /** LiveKit keeps the id across its retries. */
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
/** LiveKit allows the same for other parties' tokens. */
const CLOCK_SKEW_SECONDS = 60

interface WebhookReceiver {
  /**
   * Verifies the header, a bare token (LiveKit docs, Webhooks): HS256, the right key, not expired.
   * @returns the SHA-256 (base64) of the signed body. @throws AppError `invalid_token`
   */
  verify(authorization: string | undefined): Promise<unknown>
  /** Parses a raw body that has that hash. @throws AppError `invalid_token` for another body, `malformed_json` */
  open(body: string, signedHash: unknown): Webhook
}

/** LiveKit signs the body's hash, so an unsigned request is refused before its body is read. */
export function createWebhookReceiver({ key, secret }: KeyPair, now: () => number): WebhookReceiver {
  const verifyingKey = hmacKey(secret, 'verify')

  function open(body: string, signedHash: unknown): Webhook {
    const actual = createHash('sha256').update(body).digest('base64')
    if (signedHash !== actual) throw new AppError('invalid_token', 'The webhook’s signature is for another body.')
    try {
      // Protobuf ignores unknown fields, so any object would parse: only one with an id is an event.
      const webhook = toWebhook(WebhookEvent.fromJsonString(body, { ignoreUnknownFields: true }))
      if (webhook.id === '') throw new Error('The event has no id')
      return webhook
    } catch (cause) {
      throw new AppError('malformed_json', 'The webhook is not a livekit.WebhookEvent.', { cause })
    }
  }

  async function verify(authorization = ''): Promise<unknown> {
    try {
      const { payload } = await jwtVerify(authorization, await verifyingKey, {
        // Without these two, an HS512 token or one with another key's issuer would pass (RFC 8725 §3.1).
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

  return { verify, open }
}

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
