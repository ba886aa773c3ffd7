import { createRoute, z } from '@hono/zod-openapi'
import type { Config } from '../config.ts'
import { problems } from '../http/problem.ts'
import { createRouter, jsonContent } from '../http/router.ts'
import { JWKS_MAX_AGE_SECONDS, type SigningKeys } from './keys.ts'

const CACHE_CONTROL = `public, max-age=${JWKS_MAX_AGE_SECONDS}`

/** Parsing drops every other member, so that no private one can leak. */
const PublicJwk = z.object({
  kty: z.string().describe('Always `EC`.'),
  crv: z.string().describe('Always `P-256`.'),
  x: z.string().describe('Of the point, base64url.'),
  y: z.string().describe('Of the point, base64url.'),
  kid: z.string().describe('As in the header of a token: the key’s RFC 7638 thumbprint.'),
  alg: z.string().describe('Always `ES256`.'),
  use: z.string().describe('Always `sig`.'),
})
const JwksResponse = z
  .object({ keys: z.array(PublicJwk).describe('All keys that verify now, and the next one before it signs.') })
  .openapi('JsonWebKeySet')

const MetadataResponse = z
  .object({
    issuer: z.string().describe('`PUBLIC_URL`, which is `iss` of every access token.'),
    token_endpoint: z.string().describe('Where agents get their tokens.'),
    jwks_uri: z.string().describe('Where the public keys are.'),
    scopes_supported: z.array(z.string()).describe('What an agent can be allowed.'),
    response_types_supported: z.array(z.string()).describe('Empty: there is no authorization endpoint.'),
    grant_types_supported: z.array(z.string()).describe('Client credentials only.'),
    token_endpoint_auth_methods_supported: z.array(z.string()).describe('How an agent’s secret may be sent.'),
  })
  .openapi('AuthorizationServerMetadata')

const jwksRoute = createRoute({
  method: 'get',
  path: '/.well-known/jwks.json',
  operationId: 'getPublicKeys',
  tags: ['Trust'],
  security: [],
  summary: 'The public keys that verify access tokens (RFC 7517)',
  responses: {
    200: { description: 'Public keys', content: jsonContent(JwksResponse) },
    ...problems(),
  },
})

const metadataRoute = createRoute({
  method: 'get',
  path: '/.well-known/oauth-authorization-server',
  operationId: 'getAuthorizationServer',
  tags: ['Trust'],
  security: [],
  summary: 'Where agents get their tokens, and how (RFC 8414)',
  responses: {
    200: { description: 'Metadata', content: jsonContent(MetadataResponse) },
    ...problems(),
  },
})

/** What other services need to verify access tokens. */
export function wellKnownRoutes(
  keys: SigningKeys,
  { publicUrl, agentScopes }: Pick<Config, 'publicUrl' | 'agentScopes'>,
) {
  return createRouter()
    .openapi(jwksRoute, async (c) => {
      await keys.refresh()
      c.header('Cache-Control', CACHE_CONTROL)
      return c.json(JwksResponse.parse(keys.jwks()), 200)
    })
    .openapi(metadataRoute, (c) => {
      c.header('Cache-Control', CACHE_CONTROL)
      return c.json(
        {
          issuer: publicUrl,
          token_endpoint: `${publicUrl}/agent/token`,
          jwks_uri: `${publicUrl}/.well-known/jwks.json`,
          scopes_supported: [...agentScopes],
          // RFC 8414 §2 requires the member; there is no authorization endpoint.
          response_types_supported: [],
          grant_types_supported: ['client_credentials'],
          token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
        },
        200,
      )
    })
}
