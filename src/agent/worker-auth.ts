import { hash as digest } from 'node:crypto'
import { decodeJwt } from 'jose'
import { AppError } from '../errors.ts'
import { createHs256 } from '../livekit/hs256.ts'
import type { Agent } from '../store/agents.ts'
import type { Store } from '../store/store.ts'
import { createSealedSecrets } from './sealed-secrets.ts'

/**
 * Seconds around the service's time in which a worker's token must have been signed. LiveKit's SDKs sign one for each
 * connection and let it expire after six hours; whatever a token claims, it is of no use later than this.
 */
const SIGNED_WITHIN = 60

/** A worker that was let in: its account as it was then, and which of the account's secrets the worker has. */
export interface AuthenticatedWorker {
  agent: Agent
  secretHash: string
}

interface WorkerAuth {
  /** The account that a worker's token names, before anything is verified; null if there is none. */
  claimed(token: string): Promise<Agent | null>
  /** @throws AppError `invalid_token`, `agent_disabled` or `agent_secret_outdated` */
  authenticate(agent: Agent | null, token: string): Promise<AuthenticatedWorker>
  /** Whether the account as it is now would let the worker in again: not disabled, and its secret not replaced. */
  isStillGood(worker: AuthenticatedWorker, now: Agent | null): boolean
}

/** Authenticates workers as LiveKit would: HS256 with their secret, `iss` its key, and the grant `agent`. */
export function createWorkerAuth(store: Pick<Store, 'agents' | 'keys' | 'clock'>): WorkerAuth {
  const { agents, clock } = store
  const sealed = createSealedSecrets(store)

  const secretsOf = ({ secretHash, sealedSecret, oldSecretHash, oldSealedSecret, oldSecretUntil }: Agent) => [
    { hash: secretHash, box: sealedSecret },
    ...(oldSecretHash !== null && (oldSecretUntil ?? 0) > clock.latest()
      ? [{ hash: oldSecretHash, box: oldSealedSecret }]
      : []),
  ]

  function isSignedWith(secret: string, token: string, agentId: string): boolean {
    const { iss, nbf, exp, video } = createHs256(secret).verify(token) ?? {}
    if (iss !== agentId || typeof nbf !== 'number' || typeof exp !== 'number') return false
    const at = clock.now() / 1000
    const isCurrent = Math.abs(at - nbf) <= SIGNED_WITHIN && at <= exp + SIGNED_WITHIN
    return isCurrent && (video as { agent?: unknown } | undefined)?.agent === true
  }

  return {
    async claimed(token) {
      const agentId = issuerOf(token)
      return agentId === undefined ? null : agents.findAgent(agentId)
    },
    async authenticate(agent, token) {
      if (!agent) throw refused()
      const known = secretsOf(agent)
      for (const { hash, box } of known) {
        const secret = box === null ? null : await sealed.open(agent.id, box)
        if (secret === null || digest('sha256', secret) !== hash || !isSignedWith(secret, token, agent.id)) continue
        if (agent.disabledAt !== null) throw new AppError('agent_disabled', 'This agent account is disabled.')
        return { agent, secretHash: hash }
      }
      if (known.every(({ box }) => box === null)) {
        throw new AppError(
          'agent_secret_outdated',
          `The secret of ${agent.id} is from an earlier version: give it a new one.`,
        )
      }
      throw refused()
    },
    isStillGood({ agent: { generation }, secretHash }, now) {
      if (!now || now.disabledAt !== null || now.generation !== generation) return false
      return secretsOf(now).some(({ hash }) => hash === secretHash)
    },
  }
}

/** Nothing is verified yet: it only says whose secret to try. */
function issuerOf(token: string): string | undefined {
  try {
    const { iss } = decodeJwt(token)
    return typeof iss === 'string' ? iss : undefined
  } catch {
    return undefined
  }
}

const refused = () =>
  new AppError(
    'invalid_token',
    'The worker is not known: LIVEKIT_API_KEY must be its account’s id, LIVEKIT_API_SECRET the account’s secret, and its clock right.',
  )
