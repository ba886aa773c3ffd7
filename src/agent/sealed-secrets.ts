import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { newSecret } from '../ids.ts'
import type { KeyStore } from '../store/keys.ts'

const ALGORITHM = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16

/**
 * Agents' secrets as they are stored for the gateway: a worker signs with its secret, and an HMAC can be verified only
 * with the secret itself, not with its hash. Encrypted under a key of the store; SECURITY.md says what that is worth.
 */
interface SealedSecrets {
  seal(agentId: string, secret: string): Promise<string>
  /** Null if it was sealed for another account or under another key. */
  open(agentId: string, sealed: string): Promise<string | null>
}

export function createSealedSecrets({ keys, clock }: { keys: KeyStore; clock: Clock }): SealedSecrets {
  const key = async () => Buffer.from(await keys.secret('agent-secrets', newSecret, clock.now()), 'base64url')
  return {
    async seal(agentId, secret) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv(ALGORITHM, await key(), nonce).setAAD(Buffer.from(agentId))
      return Buffer.concat([nonce, cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString(
        'base64url',
      )
    },
    async open(agentId, sealed) {
      const bytes = Buffer.from(sealed, 'base64url')
      const decipher = createDecipheriv(ALGORITHM, await key(), bytes.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      }).setAAD(Buffer.from(agentId))
      try {
        decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
        return decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES), undefined, 'utf8') + decipher.final('utf8')
      } catch {
        return null
      }
    },
  }
}
