import type { CryptoKey } from 'jose'

/** LiveKit's secret as an HS256 key, imported once: jose would import the raw bytes at every use. */
export const hmacKey = (secret: string, use: 'sign' | 'verify'): Promise<CryptoKey> =>
  crypto.subtle.importKey('raw', Buffer.from(secret), { name: 'HMAC', hash: 'SHA-256' }, false, [use])
