import { createPrivateKey, type KeyObject } from 'node:crypto'
import {
  type CryptoKey,
  calculateJwkThumbprint,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JSONWebKeySet,
  type JWK,
} from 'jose'
import type { Clock } from '../clock.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { KeyStore, StoredKey } from '../store/keys.ts'

export const ALG = 'ES256'

/** Seconds that others may cache the published keys, and so how long a new key is published before it signs. */
export const JWKS_MAX_AGE_SECONDS = 300

/** The signing keys as of the last `refresh`. Times are milliseconds. */
export interface SigningKeys {
  /**
   * Rereads the store if the last read is a second old or did not return that `kid`: this is how the command line's
   * changes take effect. @throws AppError `store_unavailable`
   */
  refresh(kid?: string): Promise<void>
  /** The newest key that may already sign. */
  current(): { kid: string; privateKey: KeyObject }
  /** The key of that `kid` if it is published, now or at another time. */
  publicKey(kid: string, at?: number): CryptoKey | undefined
  /** RFC 7517 §5: public halves only. */
  jwks(): JSONWebKeySet
}

interface LoadedKey extends StoredKey {
  privateKey: KeyObject
  publicKey: CryptoKey
  publicJwk: JWK
}

/** Loads the service's signing keys from the store, generating the first one if there is none. */
export async function loadSigningKeys(store: KeyStore, clock: Clock): Promise<SigningKeys> {
  if ((await store.signingKeys()).length === 0) await store.addFirstSigningKey(await newSigningKey(clock.latest()))
  return readSigningKeys(store, clock)
}

const FRESH_MS = 1000

/** Loads the store's keys without generating one. */
export async function readSigningKeys(store: Pick<KeyStore, 'signingKeys'>, clock: Clock): Promise<SigningKeys> {
  let keys: LoadedKey[] = []
  let readAt = clock.steady()
  const once = createSingleFlight<void>()

  async function read(): Promise<void> {
    const at = clock.steady()
    const stored = await store.signingKeys()
    const loaded = new Map(keys.map((key) => [key.kid, key]))
    keys = await Promise.all(stored.map(async (key) => ({ ...(loaded.get(key.kid) ?? (await load(key))), ...key })))
    readAt = at
  }
  await read()

  const published = (at = clock.latest()) => keys.filter((key) => key.expiresAt === null || key.expiresAt > at)
  return {
    async refresh(kid) {
      const isKnown = kid === undefined || keys.some((key) => key.kid === kid)
      if (!isKnown || clock.steady() - readAt >= FRESH_MS) await once('read', read)
    },
    current() {
      const at = clock.latest()
      const newestFirst = published(at).sort((a, b) => b.signsFrom - a.signsFrom)
      // The process that generated the only key may have had a clock slightly ahead of this one.
      const key = newestFirst.find(({ signsFrom }) => signsFrom <= at) ?? newestFirst.at(-1)
      if (!key) throw new Error('No signing key may sign now')
      return key
    },
    publicKey: (kid, at) => published(at).find((key) => key.kid === kid)?.publicKey,
    jwks: () => ({ keys: published().map((key) => key.publicJwk) }),
  }
}

/** A fresh ES256 key, named by its RFC 7638 thumbprint, that signs at once. */
export async function newSigningKey(now: number): Promise<StoredKey> {
  const { privateKey } = await generateKeyPair(ALG, { extractable: true })
  const jwk = await exportJWK(privateKey)
  const kid = await calculateJwkThumbprint(jwk)
  return { kid, alg: ALG, privateJwk: JSON.stringify(jwk), createdAt: now, signsFrom: now, expiresAt: null }
}

async function load(stored: StoredKey): Promise<LoadedKey> {
  const privateJwk = JSON.parse(stored.privateJwk) as JWK
  const { d: _, ...rest } = privateJwk
  const publicJwk = { ...rest, kid: stored.kid, alg: stored.alg, use: 'sig' }
  return {
    ...stored,
    publicJwk,
    privateKey: createPrivateKey({ key: privateJwk, format: 'jwk' }),
    publicKey: (await importJWK(publicJwk, stored.alg)) as CryptoKey,
  }
}
