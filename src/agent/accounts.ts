import { hash, timingSafeEqual } from 'node:crypto'
import { DEFAULT_SCOPES, type Scope } from '../auth/scopes.ts'
import { OperatorError } from '../errors.ts'
import { newSecret } from '../ids.ts'
import type { Agent, AgentRights, StoredSecret } from '../store/agents.ts'
import type { Store } from '../store/store.ts'
import { createSealedSecrets } from './sealed-secrets.ts'

const NAME = /^[a-z][a-z0-9_-]{1,62}$/

/**
 * An agent's name is its client_id, LiveKit identity and LiveKit agent_name. It must not look like a user id, nor like
 * the identity `agent-<job>` that LiveKit gives to dispatched workers.
 */
function checkAgentName(name: string): string {
  if (!NAME.test(name) || name.startsWith('user_') || name.startsWith('agent-')) {
    throw new OperatorError(
      'A name has 2 to 63 characters (a-z, 0-9, _, -), begins with a letter, and does not begin with user_ or agent-.',
    )
  }
  return name
}

/** What an agent signs in with. Only this object holds the secret in clear. */
export interface AgentCredentials {
  id: string
  /** 32 random bytes, base64url. */
  secret: string
  scopes: Scope[]
}

/** An account without its secrets and their hashes, safe to show. */
export interface AgentSummary extends Pick<Agent, 'id' | 'scopes' | 'summon' | 'createdAt' | 'disabledAt'> {
  /** When the previous secret stops being valid; null when only one secret is valid. */
  oldSecretUntil: number | null
}

/** The result of a secret rotation. */
export interface NewSecret extends AgentCredentials {
  /** When the previous secret stops being valid; null when it already has. */
  oldSecretUntil: number | null
}

export interface AgentAccounts {
  /** @throws OperatorError for an invalid or taken name: names are never reused, even after disabling */
  create(name: string, scopes: readonly Scope[], summon?: Agent['summon']): Promise<AgentCredentials>
  /** For development: grants the default scopes. Null when an agent already exists. */
  createFirst(name: string): Promise<AgentCredentials | null>
  /** Oldest first. */
  list(): Promise<AgentSummary[]>
  /** Replaces what is given, from the next request on. @throws OperatorError for an unknown agent */
  set(id: string, rights: Partial<AgentRights>): Promise<void>
  /** The next request with its secret or an access token is refused. @throws OperatorError for an unknown agent */
  disable(id: string): Promise<void>
  /** Undoes `disable`, but access tokens issued before it stay refused. @throws OperatorError for an unknown agent */
  enable(id: string): Promise<void>
  /**
   * Issues a new secret. Without an overlap, all older secrets and access tokens are refused at once. With one, the
   * previous secret stays valid that long and access tokens until they expire. @throws OperatorError for an unknown agent
   */
  rekey(id: string, overlapMs?: number): Promise<NewSecret>
  /** Returns null for an unknown agent, a wrong secret and a disabled agent alike. */
  authenticate(id: string, secret: string): Promise<Agent | null>
}

/** SHA-256 is enough for 256 random bits: a slow hash only helps secrets that can be guessed. */
const hashOf = (secret: string): string => hash('sha256', secret)

/** Stands in for an unknown agent's hash, so that the comparison takes as long. No known input hashes to it. */
const NO_HASH = '0'.repeat(64)

export function createAgentAccounts({ agents, keys, clock }: Pick<Store, 'agents' | 'keys' | 'clock'>): AgentAccounts {
  const sealed = createSealedSecrets({ keys, clock })
  const stored = async (id: string, secret: string): Promise<StoredSecret> => ({
    secretHash: hashOf(secret),
    sealedSecret: await sealed.seal(id, secret),
  })

  async function newAgent(
    name: string,
    scopes: readonly Scope[],
    summon: Agent['summon'],
  ): Promise<{ agent: Agent; credentials: AgentCredentials }> {
    const secret = newSecret()
    const granted = [...new Set(scopes)]
    const id = checkAgentName(name)
    return {
      agent: {
        id,
        ...(await stored(id, secret)),
        oldSecretHash: null,
        oldSealedSecret: null,
        oldSecretUntil: null,
        scopes: granted,
        generation: 1,
        createdAt: clock.now(),
        disabledAt: null,
        summon,
      },
      credentials: { id, secret, scopes: granted },
    }
  }

  return {
    async create(name, scopes, summon = 'any') {
      const { agent, credentials } = await newAgent(name, scopes, summon)
      if (!(await agents.insertAgent(agent))) {
        throw new OperatorError(`An agent named ${name} already exists; names are never reused.`)
      }
      return credentials
    },
    async createFirst(name) {
      const { agent, credentials } = await newAgent(name, DEFAULT_SCOPES, 'any')
      return (await agents.insertFirstAgent(agent)) ? credentials : null
    },
    async list() {
      const at = clock.latest()
      const all = await agents.listAgents()
      return all.map(({ id, scopes, summon, createdAt, disabledAt, oldSecretUntil }) => {
        const hasOld = oldSecretUntil !== null && oldSecretUntil > at
        return { id, scopes, summon, createdAt, disabledAt, oldSecretUntil: hasOld ? oldSecretUntil : null }
      })
    },
    async set(id, rights) {
      found(id, await agents.setRights(id, rights))
    },
    async disable(id) {
      found(id, await agents.disableAgent(id, clock.now()))
    },
    async enable(id) {
      found(id, await agents.enableAgent(id))
    },
    async rekey(id, overlapMs) {
      const secret = newSecret()
      const next = await stored(id, secret)
      const agent =
        overlapMs === undefined
          ? await agents.replaceSecret(id, next)
          : await agents.addSecret(id, next, clock.latest() + overlapMs)
      const { scopes, oldSecretUntil } = found(id, agent)
      return { id, secret, scopes, oldSecretUntil }
    },
    async authenticate(id, secret) {
      const agent = await agents.findAgent(id)
      const given = Buffer.from(hashOf(secret), 'hex')
      const matches = (stored: string | null | undefined) =>
        timingSafeEqual(given, Buffer.from(stored ?? NO_HASH, 'hex'))
      const isNew = matches(agent?.secretHash)
      const isOld = matches(agent?.oldSecretHash) && (agent?.oldSecretUntil ?? 0) > clock.latest()
      return agent && (isNew || isOld) && agent.disabledAt === null ? agent : null
    },
  }
}

function found(id: string, agent: Agent | null): Agent {
  if (!agent) throw new OperatorError(`No agent is named ${id}.`)
  return agent
}
