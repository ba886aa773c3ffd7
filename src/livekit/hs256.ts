import { createHmac, createSecretKey, timingSafeEqual } from 'node:crypto'
import { compactJws, jwsPart } from '../jws.ts'

/**
 * LiveKit's JWTs, HS256 by the API secret. Synchronous, because WebCrypto takes longer to hand one HMAC to a thread
 * than to compute it.
 */
export function createHs256(secret: string) {
  const key = createSecretKey(secret, 'utf8')
  const mac = (input: string) => createHmac('sha256', key).update(input).digest('base64url')

  return {
    /** The header and the order of claims are those of LiveKit's SDK. */
    sign: (claims: object): string => compactJws(HEADER, claims, mac),
    /** The claims of a correctly signed token; its times and issuer are for the caller to check. Undefined for any other. */
    verify(token: string): Record<string, unknown> | undefined {
      const [, input = '', header = '', payload = '', signature = ''] = COMPACT.exec(token) ?? []
      // Compared as text, so that a signature has only one spelling.
      const expected = Buffer.from(mac(input))
      const actual = Buffer.from(signature)
      if (actual.length !== expected.length || !timingSafeEqual(actual, expected)) return undefined
      const { alg, crit } = objectIn(header) ?? {}
      // RFC 8725 §3.1: one algorithm per key. RFC 7515 §4.1.11: a critical extension that is not understood is refused.
      return alg === 'HS256' && crit === undefined ? objectIn(payload) : undefined
    },
  }
}

const HEADER = jwsPart({ alg: 'HS256' })
/** RFC 7515 §7.1: the signing input, its two parts, and the signature, in base64url without padding. */
const COMPACT = /^(([\w-]+)\.([\w-]+))\.([\w-]+)$/
const utf8 = new TextDecoder('utf-8', { fatal: true })

function objectIn(part: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(utf8.decode(Buffer.from(part, 'base64url')))
    return typeof value === 'object' && !Array.isArray(value) ? { ...value } : undefined
  } catch {
    return undefined
  }
}
