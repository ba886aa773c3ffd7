import { createRoute, z } from '@hono/zod-openapi'
import { SCOPES } from '../auth/scopes.ts'
import { ACCESS_TOKEN_SECONDS, type AccessTokens } from '../auth/tokens.ts'
import type { ClientAddress } from '../http/address.ts'
import { limitBody } from '../http/body.ts'
import type { Quota } from '../http/counters.ts'
import { problems } from '../http/problem.ts'
import { countRequest, type RateLimits } from '../http/rate-limit.ts'
import { createRouter, jsonContent } from '../http/router.ts'
import type { Store } from '../store/store.ts'
import { createAgentAccounts } from './accounts.ts'
import { grantScopes, invalidClient, readTokenRequest, TOKEN_ERRORS, TokenError } from './client-credentials.ts'

/**
 * Limits wrong secrets for one account from one address, as the configured limit does for all accounts. A right secret
 * is accepted even so: it cannot be guessed, and one worker with an old secret must not lock out the others.
 */
export const FAILED_AGENT_SIGN_INS: Quota = { name: 'failed-agent-sign-ins', count: 10, windowSeconds: 15 * 60 }

const MAX_FORM_BYTES = 8 * 1024
/** RFC 6749 §5.1 requires both. */
const NO_STORE = { 'Cache-Control': 'no-store', Pragma: 'no-cache' }
const CHALLENGE = { 'WWW-Authenticate': 'Basic realm="behalf"' }

const TokenResponse = z
  .object({
    access_token: z.string().describe('A JWT (RFC 9068) to send as `Authorization: Bearer`.'),
    token_type: z.literal('Bearer').describe('Always `Bearer`.'),
    expires_in: z.number().int().describe('Seconds until the token expires.'),
    scope: z.string().describe('What it allows, space-separated.'),
  })
  .openapi('AgentTokenAnswer')

const TokenErrorResponse = z
  .object({
    error: z.enum(TOKEN_ERRORS).describe('RFC 6749 §5.2. Stable: switch on it.'),
    error_description: z.string().describe('What is wrong, for people to read.'),
  })
  .openapi('AgentTokenError')

const tokenRoute = createRoute({
  method: 'post',
  path: '/agent/token',
  operationId: 'issueAgentToken',
  tags: ['Agents'],
  summary: 'Get an access token for an agent',
  description:
    'RFC 6749 §4.4 client credentials. The secret comes by HTTP Basic or as `client_id` and `client_secret` in the form.',
  // The empty requirement allows for a secret in the form.
  security: [{ agentSecret: [] }, {}],
  middleware: limitBody(MAX_FORM_BYTES),
  request: {
    body: {
      required: true,
      // A plain schema documents without validating: a parsed form would hide repeated parameters (RFC 6749 §3.2).
      content: {
        'application/x-www-form-urlencoded': {
          schema: {
            type: 'object',
            required: ['grant_type'],
            properties: {
              grant_type: { type: 'string', enum: ['client_credentials'], description: 'The only supported grant.' },
              scope: {
                type: 'string',
                description: `Space-separated, from: ${SCOPES.join(' ')}. Left out: all of the account’s scopes.`,
              },
              client_id: { type: 'string', description: 'The agent’s id, unless it comes by HTTP Basic.' },
              client_secret: { type: 'string', description: 'Its secret, unless it comes by HTTP Basic.' },
            },
          },
        },
      },
    },
  },
  responses: {
    200: { description: 'An access token', content: jsonContent(TokenResponse) },
    400: { description: 'RFC 6749 §5.2', content: jsonContent(TokenErrorResponse) },
    401: {
      description: 'invalid_client',
      headers: { 'WWW-Authenticate': { $ref: '#/components/headers/WWW-Authenticate' } },
      content: jsonContent(TokenErrorResponse),
    },
    ...problems('body_too_large', 'rate_limited', 'store_unavailable'),
  },
})

export interface AgentTokenRoutesDeps {
  store: Pick<Store, 'agents' | 'keys' | 'clock'>
  tokens: AccessTokens
  limits: Pick<RateLimits, 'agentSignIns' | 'counters'>
  address: ClientAddress
}

/** The OAuth token endpoint for agents. It answers in RFC 6749's own format, not as problem+json. */
export function agentTokenRoutes({ store, tokens, limits, address }: AgentTokenRoutesDeps) {
  const accounts = createAgentAccounts(store)
  const failures = limits.counters(FAILED_AGENT_SIGN_INS)

  return createRouter().openapi(tokenRoute, async (c) => {
    try {
      const request = readTokenRequest({
        url: c.req.url,
        contentType: c.req.header('Content-Type'),
        authorization: c.req.header('Authorization'),
        body: await c.req.text(),
      })
      const agent = await accounts.authenticate(request.clientId, request.secret)
      if (!agent) {
        // Only an existing name is logged: people paste secrets into the wrong field.
        if (await store.agents.findAgent(request.clientId)) c.set('who', { agent: request.clientId })
        await countRequest(c, failures, `${request.clientId} ${address(c)}`)
        throw invalidClient()
      }
      c.set('who', { agent: agent.id })
      const scopes = grantScopes(agent.scopes, request.scope)
      const token = await tokens.issueAgentToken({ agentId: agent.id, scopes, generation: agent.generation })
      const answer = { access_token: token, token_type: 'Bearer' as const, expires_in: ACCESS_TOKEN_SECONDS }
      return c.json({ ...answer, scope: scopes.join(' ') }, 200, NO_STORE)
    } catch (error) {
      if (!(error instanceof TokenError)) throw error
      if (error.code === 'invalid_client') await countRequest(c, limits.agentSignIns, address(c))
      const refusal = { error: error.code, error_description: error.message }
      // RFC 6749 §5.2 requires the challenge when the header was used, RFC 9110 §15.5.2 with every 401.
      if (error.code === 'invalid_client') return c.json(refusal, 401, { ...NO_STORE, ...CHALLENGE })
      return c.json(refusal, 400, NO_STORE)
    }
  })
}
