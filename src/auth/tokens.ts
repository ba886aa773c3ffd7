import { randomUUID, sign as signBytes } from 'node:crypto'
import { decodeJwt, errors, type JWTPayload, jwtVerify } from 'jose'
import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import { compactJws, jwsPart } from '../jws.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { UserStore } from '../store/users.ts'
import { ALG, type SigningKeys } from './keys.ts'
import type { Scope } from './scopes.ts'
import { createTokenCache, type TokenCache } from './token-cache.ts'

/** Seconds that a user or agent access token lives. */
export const ACCESS_TOKEN_SECONDS = 15 * 60
const CLOCK_SKEW_SECONDS = 5
/** RFC 9068 §4: a token of any other type is refused. */
const TYP = 'at+jwt'
/** A private claim: `iat` by the clock that decides expiry, so that setting the wall clock back revives no token. */
const STEADY_IAT = 'steady_iat'
/** RFC 9068 §2.2 requires a client_id; the service's own sign-in has only this first-party client. */
const FIRST_PARTY_CLIENT = 'behalf'

export interface UserToken {
  userId: string
  /** The sign-in that it was issued for, the refresh family's id: `sid`, as in OpenID Connect. */
  signInId: string
}

export interface VerifiedUserToken extends UserToken {
  /** The token's `exp`, Unix seconds. */
  expiresAt: number
}

interface AgentToken {
  agentId: string
  scopes: Scope[]
  /** The agent's secret generation when the token was issued. */
  generation: number
}

/** One function per kind of access token; each pins algorithm, type, issuer and its own audience. */
export interface AccessTokens {
  issueUserToken(user: UserToken): Promise<string>
  /** @throws AppError `invalid_token`, also once the sign-in has ended: reads it from the store */
  verifyUserToken(token: string): Promise<VerifiedUserToken>
  issueAgentToken(agent: AgentToken): Promise<string>
  /** @throws AppError `invalid_token` */
  verifyAgentToken(token: string): Promise<AgentToken>
  /** Which verifier a route for both kinds should use. Decodes without verification, so it proves nothing. */
  isForAgents(token: string): boolean
}

interface AccessTokensDeps {
  keys: SigningKeys
  users: Pick<UserStore, 'isSignedIn'>
  /** `PUBLIC_URL`: issuer, audience of user tokens, and with `/agent` that of agent tokens. */
  publicUrl: string
  clock: Clock
}

type Claims = JWTPayload & Record<'exp' | 'iat' | typeof STEADY_IAT, number>

/** What stays true of a token for as long as its key is published. */
interface Verified {
  kid: string | undefined
  claims: Claims
}

export function createAccessTokens({ keys, users, publicUrl, clock }: AccessTokensDeps): AccessTokens {
  const userAudience = publicUrl
  const agentAudience = `${publicUrl}/agent`
  const usersTokens = createTokenCache<Verified>()
  const agentsTokens = createTokenCache<Verified>()
  const verifyForUsers = createVerifier(userAudience, usersTokens)
  const verifyForAgents = createVerifier(agentAudience, agentsTokens)

  /** A token that this process signed needs no verification when it comes back. */
  async function sign(claims: JWTPayload, aud: string, cache: TokenCache<Verified>): Promise<string> {
    await keys.refresh()
    const { kid, privateKey } = keys.current()
    const iat = Math.floor(clock.now() / 1000)
    const exp = iat + ACCESS_TOKEN_SECONDS
    const payload = { ...claims, [STEADY_IAT]: clock.latest(), iss: publicUrl, aud, iat, exp, jti: randomUUID() }
    const key = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const
    const signature = (input: string) => signBytes('sha256', Buffer.from(input), key).toString('base64url')
    const token = compactJws(jwsPart({ alg: ALG, typ: TYP, kid }), payload, signature)
    cache.set(token, { kid, claims: payload })
    return token
  }

  /**
   * Verifies each signature once. What can change is checked at every use: the key, the times, and by the callers the
   * sign-in or the agent's account. Each audience has its own cache, so a token of one kind never passes for the other.
   */
  function createVerifier(audience: string, cache: TokenCache<Verified>): (token: string) => Promise<Claims> {
    const once = createSingleFlight<Verified>()

    async function established(token: string): Promise<Verified> {
      if (!COMPACT.test(token)) throw notValid()
      try {
        const { payload, protectedHeader } = await jwtVerify(token, ({ kid }) => publishedKey(kid), {
          algorithms: [ALG],
          typ: TYP,
          issuer: publicUrl,
          audience,
          requiredClaims: ['iss', 'exp', 'aud', 'sub', 'client_id', 'iat', 'jti'],
          clockTolerance: CLOCK_SKEW_SECONDS,
          currentDate: new Date(clock.now()),
        })
        if (!hasLifetime(payload)) throw notValid()
        const verified = { kid: protectedHeader.kid, claims: payload }
        cache.set(token, verified)
        return verified
      } catch (error) {
        if (error instanceof errors.JWTExpired) throw expired()
        if (error instanceof errors.JOSEError) throw notValid()
        throw error
      }
    }

    return async function verify(token) {
      const { kid, claims } = cache.get(token) ?? (await once(token, () => established(token)))
      await publishedKey(kid)
      checkTimes(claims)
      return claims
    }
  }

  /** Checked at every use: a remembered token ages, and the clock may be set. */
  function checkTimes({ exp, nbf = 0, [STEADY_IAT]: steadyIat }: Claims): void {
    const now = Math.floor(clock.now() / 1000)
    const age = (clock.latest() - steadyIat) / 1000
    if (exp <= now - CLOCK_SKEW_SECONDS || age >= ACCESS_TOKEN_SECONDS + CLOCK_SKEW_SECONDS) throw expired()
    if (nbf > now + CLOCK_SKEW_SECONDS || age < -CLOCK_SKEW_SECONDS) throw notValid()
  }

  async function publishedKey(kid: string | undefined) {
    await keys.refresh(kid)
    const key = kid === undefined ? undefined : keys.publicKey(kid)
    if (!key) throw notValid()
    return key
  }

  return {
    issueUserToken: ({ userId, signInId }) =>
      sign({ sub: userId, sid: signInId, client_id: FIRST_PARTY_CLIENT }, userAudience, usersTokens),
    async verifyUserToken(token) {
      const { sub, sid, exp } = await verifyForUsers(token)
      if (typeof sub !== 'string' || !sub.startsWith('user_')) throw notValid()
      // Tokens of earlier versions name no sign-in; clients refresh them.
      if (typeof sid !== 'string') throw notValid()
      if (!(await users.isSignedIn(sid, sub, clock.latest()))) throw signedOut()
      return { userId: sub, signInId: sid, expiresAt: exp }
    },
    issueAgentToken: ({ agentId, scopes, generation }) =>
      sign({ sub: agentId, client_id: agentId, scope: scopes.join(' '), generation }, agentAudience, agentsTokens),
    async verifyAgentToken(token) {
      const { sub, client_id, scope, generation } = await verifyForAgents(token)
      const wellFormed = typeof sub === 'string' && sub === client_id && typeof scope === 'string'
      if (!wellFormed || typeof generation !== 'number') throw notValid()
      return { agentId: sub, scopes: scope.split(' ') as Scope[], generation }
    },
    isForAgents(token) {
      if (usersTokens.get(token)) return false
      try {
        return decodeJwt(token).aud === agentAudience
      } catch {
        return false
      }
    },
  }
}

/** The lifetime that the service gives every token; with another one, something else signed it. */
const hasLifetime = (claims: JWTPayload): claims is Claims =>
  typeof claims.exp === 'number' &&
  typeof claims.iat === 'number' &&
  typeof claims[STEADY_IAT] === 'number' &&
  claims.exp - claims.iat === ACCESS_TOKEN_SECONDS

/** RFC 7515 §7.1: base64url without padding, which the library would accept. */
const COMPACT = /^[\w-]+\.[\w-]+\.[\w-]+$/
const signedOut = () => new AppError('invalid_token', 'The sign-in of this access token has ended: sign in again.')
const expired = () => new AppError('invalid_token', 'The access token has expired.')
const notValid = () => new AppError('invalid_token', 'The access token is not valid here.')
