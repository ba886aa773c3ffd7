export interface StoredKey {
  /** RFC 7638 thumbprint. */
  kid: string
  alg: 'ES256'
  /** Private JWK as JSON. */
  privateJwk: string
  createdAt: number
  /** It is published from its creation and signs from here on. */
  signsFrom: number
  /** It is published until here; null while nothing has replaced it. */
  expiresAt: number | null
}

/** The service's own keys. */
export interface KeyStore {
  signingKeys(): Promise<StoredKey[]>
  /** Adds a key only if there is none yet: two processes that start together end with the same one. */
  addFirstSigningKey(key: StoredKey): Promise<void>
  /** Replaces the keys by what `change` makes of them, in one write; when it throws, nothing is changed. */
  changeSigningKeys(change: (keys: StoredKey[]) => StoredKey[]): Promise<void>
  /** The named symmetric key, made by `create` on first use. */
  secret(name: string, create: () => string, now: number): Promise<string>
}
