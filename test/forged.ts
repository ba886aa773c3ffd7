import { randomUUID } from 'node:crypto'
import { decodeJwt, exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose'
import { SCOPES } from '../src/auth/scopes.ts'
import type { Scene, SignedIn } from './scene.ts'
import { webhookToken } from './sfu.ts'

/** The claims of every access token, for the next 15 minutes. */
function claims({ config, clock }: Scene, sub: string, client_id: string) {
  const iat = Math.floor(clock.now() / 1000)
  return { iss: config.publicUrl, sub, client_id, iat, exp: iat + 15 * 60, jti: randomUUID(), steady_iat: iat * 1000 }
}

/** The claims of a user's access token: signed by `sign`, it is as good as a real one. */
export const userClaims = (s: Scene, { id, bearer }: Pick<SignedIn, 'id' | 'bearer'>) => ({
  ...claims(s, id, 'behalf'),
  aud: s.config.publicUrl,
  sid: decodeJwt(bearer).sid,
})

/** The same for an agent with all scopes and its first secret. */
export const agentClaims = (s: Scene, agentId: string) => ({
  ...claims(s, agentId, agentId),
  aud: `${s.config.publicUrl}/agent`,
  scope: SCOPES.join(' '),
  generation: 1,
})

/** Signs with the service's key, by default with the header of its access tokens. */
export function sign({ keys }: Scene, payload: JWTPayload, header: { typ?: string; kid?: string } = {}) {
  const { kid, privateKey } = keys.current()
  return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid, ...header }).sign(privateKey)
}

/** Tokens with valid claims made without the private key, or signed with it for another purpose. */
export const FORGERIES = {
  expired: (s, { iat, exp, ...payload }) => sign(s, { ...payload, iat: iat - 1000, exp: exp - 1000 }),
  'without an expiry': (s, { exp: _, ...payload }) => sign(s, payload),
  'that expires in a year': (s, payload) => sign(s, { ...payload, iat: payload.iat - 1000, exp: payload.exp + 31e6 }),
  'of another audience': (s, payload) => sign(s, { ...payload, aud: 'https://other.example' }),
  'of another issuer': (s, payload) => sign(s, { ...payload, iss: 'https://other.example' }),
  'of another type': (s, payload) => sign(s, payload, { typ: 'JWT' }),
  'of an unknown key': (s, payload) => sign(s, payload, { kid: 'unknown' }),
  'with alg none': (_, payload) => new UnsecuredJWT(payload).encode(),
  'with alg none and our header': async (s, payload) => {
    const header = { alg: 'none', typ: 'at+jwt', kid: s.keys.current().kid }
    return `${encode(header)}.${encode(payload)}.`
  },
  'with HS256 by our public key (PEM)': async (s, payload) => hmac(s, payload, await exportSPKI(publicKey(s))),
  'with HS256 by our public key (JWK)': async (s, payload) =>
    hmac(s, payload, JSON.stringify(await exportJWK(publicKey(s)))),
  'with HS256 by our published JWK': (s, payload) => hmac(s, payload, JSON.stringify(s.keys.jwks().keys[0])),
  'with HS256 by the LiveKit secret': (s, payload) => hmac(s, payload, s.secrets.livekit.secret),
  'signed by somebody else under our kid': async (s, payload) => {
    const { privateKey } = await generateKeyPair('ES256')
    const { kid } = s.keys.current()
    return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid }).sign(privateKey)
  },
  'signed by a key in its own header': async (s, payload) => {
    const { privateKey, publicKey } = await generateKeyPair('ES256')
    const { kid } = s.keys.current()
    const jwk = await exportJWK(publicKey)
    return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid, jwk }).sign(privateKey)
  },
  'changed after signing': async (s, payload) => {
    const [header, , signature] = (await sign(s, { ...payload, sub: 'user_other' })).split('.')
    return `${header}.${encode(payload)}.${signature}`
  },
  'without its signature': async (s, payload) => `${(await sign(s, payload)).split('.').slice(0, 2).join('.')}.`,
  'that is a webhook’s': (s) => webhookToken('{}', { ...s.secrets.webhook, at: s.clock.now() }),
  'that is no JWT': async () => 'not-a-token',
  'of 100,000 characters': async () => 'a'.repeat(100_000),
} satisfies Record<string, (s: Scene, payload: Omit<ReturnType<typeof userClaims>, 'sid'>) => string | Promise<string>>

export type Forgery = keyof typeof FORGERIES

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

function publicKey({ keys }: Scene) {
  const key = keys.publicKey(keys.current().kid)
  if (!key) throw new Error('The signing key is not published')
  return key
}

function hmac({ keys }: Scene, payload: JWTPayload, secret: string) {
  const { kid } = keys.current()
  return new SignJWT(payload).setProtectedHeader({ alg: 'HS256', typ: 'at+jwt', kid }).sign(Buffer.from(secret))
}
