import { hash } from 'node:crypto'
import type { KeyPair } from '../config.ts'
import { AppError } from '../errors.ts'
import { inWords, type ReportSkew, SKEW_SECONDS } from './clock-skew.ts'
import { createHs256 } from './hs256.ts'
import { readWebhook, type Webhook } from './wire.ts'

/** How long LiveKit signs a webhook for. Whatever expiry a signature claims, no webhook is accepted for longer. */
const VALID_SECONDS = 5 * 60
/** LiveKit's retries carry the signature of the first attempt. */
const RETRIES_MS = 20_000

/** Why a webhook was refused. */
export const WEBHOOK_REFUSALS = ['bad_signature', 'bad_time', 'bad_body'] as const

interface WebhookReceiver {
  /**
   * Verifies the header, a bare token (LiveKit docs, Webhooks): HS256, the right key, signed within five minutes.
   * @returns the SHA-256 (base64) of the signed body. @throws AppError `invalid_token`
   */
  verify(authorization: string | undefined): unknown
  /** Parses a raw body that has that hash. @throws AppError `invalid_token` for another body, `malformed_json` */
  open(body: string, signedHash: unknown): Webhook
}

/** LiveKit signs the body's hash, so an unsigned request is refused before its body is read. */
export function createWebhookReceiver(
  { key, secret }: KeyPair,
  now: () => number,
  reportSkew: ReportSkew,
  refused: (why: (typeof WEBHOOK_REFUSALS)[number]) => void,
): WebhookReceiver {
  const hs256 = createHs256(secret)

  function open(body: string, signedHash: unknown): Webhook {
    const actual = hash('sha256', body, 'base64')
    if (signedHash !== actual) {
      refused('bad_signature')
      throw new AppError('invalid_token', 'The webhook’s signature is for another body.')
    }
    try {
      return readWebhook(JSON.parse(body))
    } catch (cause) {
      refused('bad_body')
      throw new AppError('malformed_json', 'The webhook is not a livekit.WebhookEvent.', { cause })
    }
  }

  function verify(authorization = ''): unknown {
    const { iss, nbf, exp, sha256 } = hs256.verify(authorization) ?? {}
    if (iss !== key || typeof nbf !== 'number' || typeof exp !== 'number' || sha256 === undefined) {
      refused('bad_signature')
      throw new AppError('invalid_token', 'The webhook’s signature is not valid.')
    }
    const at = now()
    const aheadMs = at - nbf * 1000
    const isExpired = at >= (exp + SKEW_SECONDS) * 1000
    if (aheadMs >= -SKEW_SECONDS * 1000 && aheadMs <= (VALID_SECONDS + SKEW_SECONDS) * 1000 && !isExpired) {
      if (aheadMs < 0 || aheadMs > RETRIES_MS) reportSkew(aheadMs, 'webhook')
      return sha256
    }
    refused('bad_time')
    reportSkew(aheadMs, 'refused webhook')
    throw new AppError(
      'invalid_token',
      `The webhook’s times are not valid: this machine’s clock is ${inWords(aheadMs)}.`,
    )
  }

  return { verify, open }
}
