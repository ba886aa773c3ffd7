import { compactVerify, type JWTPayload, type ProtectedHeaderParameters } from 'jose'
import type { AgentStore } from '../agents/store.ts'
import { ALG, type SigningKeys } from '../auth/keys.ts'
import { accessTokens } from '../auth/tokens.ts'
import type { Clock } from '../clock.ts'
import type { KeyPair, Secrets } from '../config.ts'
import { AppError } from '../errors.ts'
import type { Report, TokenKind } from './report.ts'

export interface SignatureDeps {
  /** Our own keys and agents; a sentence says why there are none. */
  store: { keys: SigningKeys; agents: AgentStore } | string
  publicUrl: string
  secrets: Secrets
  clock: Clock
}

export type Verdict = Pick<Report, 'signature' | 'problems' | 'hints'>

/** Whether one of our own keys signed it, and whether the service takes it. */
export async function ourSignature(
  token: string,
  kind: TokenKind,
  header: ProtectedHeaderParameters,
  claims: JWTPayload,
  { store, publicUrl, clock }: SignatureDeps,
): Promise<Verdict> {
  if (typeof store === 'string') return { signature: 'unknown', problems: [store], hints: [] }
  // At the time 0 no key is retired yet.
  const key = header.kid === undefined ? undefined : store.keys.publicKey(header.kid, 0)
  if (!key || !(await isSignedBy(token, key, ALG))) {
    const hints = ['The service that issued it has another store (DATABASE_URL), or somebody else made it.']
    return { signature: 'foreign', problems: ['No key of ours signed it.'], hints }
  }
  const problems: string[] = []
  const audience = kind === 'agent_access' ? `${publicUrl}/agent` : publicUrl
  if (claims.iss !== publicUrl) problems.push(`Its issuer is ${claims.iss}; PUBLIC_URL is ${publicUrl}.`)
  if (claims.aud !== audience) problems.push(`Its audience is ${claims.aud}, not ${audience}.`)
  if (header.kid && !store.keys.publicKey(header.kid)) problems.push('Its key is not published any more.')
  if (kind === 'agent_access') problems.push(...(await accountProblems(store.agents, claims)))
  const isExpired = claims.exp !== undefined && claims.exp * 1000 <= clock.now()
  if (problems.length === 0 && !isExpired) problems.push(...(await refusal()))
  return { signature: 'ours', problems, hints: [] }

  /** The last word is the service's own. */
  async function refusal(): Promise<string[]> {
    if (typeof store === 'string') return []
    const tokens = accessTokens({ keys: store.keys, publicUrl, clock })
    try {
      await (kind === 'agent_access' ? tokens.verifyAgentToken(token) : tokens.verifyUserToken(token))
      return []
    } catch (error) {
      if (error instanceof AppError) return [error.message]
      throw error
    }
  }
}

async function accountProblems(agents: AgentStore, { sub, generation }: JWTPayload): Promise<string[]> {
  const agent = sub === undefined ? null : await agents.findAgent(sub)
  if (!agent) return ['There is no such agent account.']
  if (agent.disabledAt !== null) return ['The agent account is disabled.']
  return agent.generation === generation ? [] : ['The agent has a new secret since.']
}

/** Whether a LiveKit key pair of ours signed it: the webhook pair for webhooks, the main pair for everything else. */
export async function livekitSignature(
  token: string,
  kind: TokenKind,
  claims: JWTPayload,
  { secrets }: SignatureDeps,
): Promise<Verdict> {
  const isWebhook = kind === 'livekit_webhook'
  const expected = isWebhook ? secrets.webhook : secrets.livekit
  const name = isWebhook && secrets.webhook !== secrets.livekit ? 'LIVEKIT_WEBHOOK_API' : 'LIVEKIT_API'
  if (claims.iss === expected.key && (await isSignedWith(token, expected))) {
    const isPublic = expected.key === 'devkey' && expected.secret === 'secret'
    const hints = isPublic ? ['It is LiveKit’s public development pair: anybody can sign with it.'] : []
    return { signature: 'ours', problems: [], hints }
  }
  const other = isWebhook ? secrets.livekit : secrets.webhook
  if (claims.iss === other.key && (await isSignedWith(token, other))) {
    return { signature: 'foreign', problems: [`The other LiveKit pair of ours signed it, not ${name}_KEY.`], hints: [] }
  }
  const problem =
    claims.iss === expected.key
      ? `It names our key ${expected.key}, and another secret than ${name}_SECRET signed it.`
      : `The key ${claims.iss ?? '(none)'} signed it; ${name}_KEY is ${expected.key}.`
  return { signature: 'foreign', problems: [problem], hints: [] }
}

const isSignedWith = (token: string, { secret }: KeyPair) => isSignedBy(token, Buffer.from(secret), 'HS256')

async function isSignedBy(token: string, key: Parameters<typeof compactVerify>[1], alg: string): Promise<boolean> {
  try {
    await compactVerify(token, key, { algorithms: [alg] })
    return true
  } catch {
    return false
  }
}
