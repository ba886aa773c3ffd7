import {
  type CryptoKey,
  calculateJwkThumbprint,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JSONWebKeySet,
  type JWK,
} from 'jose'
import type { KeyStore, StoredKey } from './key-store.ts'

export const ALG = 'ES256'

export interface SigningKeys {
  /** The newest key that may already sign. */
  current(now: number): { kid: string; privateKey: CryptoKey }
  /** The published key of that `kid`, or undefined. */
  publicKey(kid: string, now: number): CryptoKey | undefined
  /** RFC 7517 §5: public halves only. */
  jwks(now: number): JSONWebKeySet
}

interface LoadedKey extends StoredKey {
  privateKey: CryptoKey
  publicKey: CryptoKey
  publicJwk: JWK
}

/** Loads the service's signing keys from the store, making the first one if there is none. */
export async function loadSigningKeys(store: KeyStore, now: number): Promise<SigningKeys> {
  if ((await store.signingKeys()).length === 0) await store.addFirstSigningKey(await newSigningKey(now))
  return readSigningKeys(store)
}

/** The keys that the store has, without making one. */
export async function readSigningKeys(store: Pick<KeyStore, 'signingKeys'>): Promise<SigningKeys> {
  const keys = await Promise.all((await store.signingKeys()).map(load))
  const published = (at: number) => keys.filter((key) => key.expiresAt === null || key.expiresAt > at)
  return {
    current(at) {
      const usable = published(at).filter((key) => key.signsFrom <= at)
      const newest = usable.sort((a, b) => b.signsFrom - a.signsFrom)[0]
      if (!newest) throw new Error('There is no signing key that may sign now')
      return newest
    },
    publicKey: (kid, at) => published(at).find((key) => key.kid === kid)?.publicKey,
    jwks: (at) => ({ keys: published(at).map((key) => key.publicJwk) }),
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
  const { d, ...rest } = JSON.parse(stored.privateJwk) as JWK
  const publicJwk = { ...rest, kid: stored.kid, alg: stored.alg, use: 'sig' }
  return {
    ...stored,
    publicJwk,
    privateKey: (await importJWK({ ...rest, d: d as string }, stored.alg)) as CryptoKey,
    publicKey: (await importJWK(publicJwk, stored.alg)) as CryptoKey,
  }
}
