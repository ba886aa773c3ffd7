import { createHash } from 'node:crypto'
import { errors, type JWTPayload, jwtVerify } from 'jose'
import type { KeyPair } from '../config.ts'
import { AppError } from '../errors.ts'
import { inWords, type ReportSkew, SKEW_SECONDS } from './clock-skew.ts'
import { hmacKey } from './hmac-key.ts'
import { readWebhook, type Webhook } from './wire.ts'

/** How long LiveKit signs a webhook for. Whatever expiry a signature claims, no webhook is accepted for longer. */
const VALID_SECONDS = 5 * 60
/** LiveKit's retries carry the signature of the first attempt. */
const RETRIES_MS = 20_000

interface WebhookReceiver {
  /**
   * Verifies the header, a bare token (LiveKit docs, Webhooks): HS256, the right key, signed within five minutes.
   * @returns the SHA-256 (base64) of the signed body. @throws AppError `invalid_token`
   */
  verify(authorization: string | undefined): Promise<unknown>
  /** Parses a raw body that has that hash. @throws AppError `invalid_token` for another body, `malformed_json` */
  open(body: string, signedHash: unknown): Webhook
}

/** LiveKit signs the body's hash, so an unsigned request is refused before its body is read. */
export function createWebhookReceiver(
  { key, secret }: KeyPair,
  now: () => number,
  reportSkew: ReportSkew,
): WebhookReceiver {
  const verifyingKey = hmacKey(secret, 'verify')

  function open(body: string, signedHash: unknown): Webhook {
    const actual = createHash('sha256').update(body).digest('base64')
    if (signedHash !== actual) throw new AppError('invalid_token', 'The webhook’s signature is for another body.')
    try {
      return readWebhook(JSON.parse(body))
    } catch (cause) {
      throw new AppError('malformed_json', 'The webhook is not a livekit.WebhookEvent.', { cause })
    }
  }

  async function verify(authorization = ''): Promise<unknown> {
    const at = now()
    const { payload, isTimely } = await verified(authorization, at)
    const aheadMs = at - Number(payload.nbf) * 1000
    if (isTimely && aheadMs <= (VALID_SECONDS + SKEW_SECONDS) * 1000) {
      if (aheadMs < 0 || aheadMs > RETRIES_MS) reportSkew(aheadMs, 'webhook')
      return payload.sha256
    }
    reportSkew(aheadMs, 'refused webhook')
    throw new AppError(
      'invalid_token',
      `The webhook’s times are not valid: this machine’s clock is ${inWords(aheadMs)}.`,
    )
  }

  /** Verifies all but the times, so that a wrong clock can be told from a wrong key. */
  async function verified(token: string, at: number): Promise<{ payload: JWTPayload; isTimely: boolean }> {
    try {
      const { payload } = await jwtVerify(token, await verifyingKey, {
        // Without these two, an HS512 token or one with another key's issuer would pass (RFC 8725 §3.1).
        algorithms: ['HS256'],
        issuer: key,
        requiredClaims: ['exp', 'nbf', 'sha256'],
        clockTolerance: SKEW_SECONDS,
        currentDate: new Date(at),
      })
      return { payload, isTimely: true }
    } catch (error) {
      const isUntimely =
        error instanceof errors.JWTExpired ||
        (error instanceof errors.JWTClaimValidationFailed && error.claim === 'nbf')
      if (isUntimely && typeof error.payload.nbf === 'number') return { payload: error.payload, isTimely: false }
      throw new AppError('invalid_token', 'The webhook’s signature is not valid.')
    }
  }

  return { verify, open }
}
