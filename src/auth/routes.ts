import { createHmac, randomBytes } from 'node:crypto'
import { createRoute, type z } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import type { ClientAddress } from '../http/address.ts'
import { optionalBearerToken } from '../http/bearer.ts'
import { jsonBody, jsonBodyRefusals, limitBody, MAX_BODY_BYTES } from '../http/body.ts'
import { problems } from '../http/problem.ts'
import { countRequest, type RateLimits, setRateLimitHeaders } from '../http/rate-limit.ts'
import { type AppEnv, createRouter, jsonContent } from '../http/router.ts'
import type { Accounts, SignedIn } from './accounts.ts'
import { type Attempt, createAttemptLimit } from './attempts.ts'
import { authenticateUser, type CallerContext, type UserEnv, userGuard, userGuardRefusals } from './guards.ts'
import type { SigningKeys } from './keys.ts'
import {
  ChangePasswordRequest,
  GuestRequest,
  LoginRequest,
  MeResponse,
  meResponse,
  RefreshRequest,
  RegisterRequest,
  SignedInResponse,
  userResponse,
} from './schemas.ts'
import { ACCESS_TOKEN_SECONDS, type AccessTokens } from './tokens.ts'
import { wellKnownRoutes } from './well-known.ts'

const requestBody = <S extends z.ZodType>(schema: S) => ({ body: { required: true, content: jsonContent(schema) } })
const success = { description: 'Signed in', content: jsonContent(SignedInResponse) }

const registerRoute = createRoute({
  method: 'post',
  path: '/auth/register',
  operationId: 'register',
  tags: ['Accounts'],
  security: [{}, { userToken: [] }],
  summary: 'Creates an account, or upgrades the guest whose access token is sent and ends its other sign-ins',
  request: requestBody(RegisterRequest),
  responses: {
    201: success,
    ...problems(...jsonBodyRefusals, ...userGuardRefusals, 'email_taken', 'already_registered', 'rate_limited', 'busy'),
  },
})

const loginRoute = createRoute({
  method: 'post',
  path: '/auth/login',
  operationId: 'login',
  tags: ['Accounts'],
  security: [],
  summary: 'Signs in with e-mail and password',
  request: requestBody(LoginRequest),
  responses: {
    200: success,
    ...problems(...jsonBodyRefusals, 'invalid_credentials', 'rate_limited', 'busy', 'store_unavailable'),
  },
})

const guestRoute = createRoute({
  method: 'post',
  path: '/auth/guest',
  operationId: 'continueAsGuest',
  tags: ['Accounts'],
  security: [],
  summary: 'Creates a guest: a user without e-mail and password',
  request: requestBody(GuestRequest),
  responses: { 201: success, ...problems(...jsonBodyRefusals, 'guests_disabled', 'rate_limited', 'store_unavailable') },
})

const refreshRoute = createRoute({
  method: 'post',
  path: '/auth/refresh',
  operationId: 'refresh',
  tags: ['Accounts'],
  security: [],
  summary: 'Exchanges a refresh token for the next one and a new access token',
  request: requestBody(RefreshRequest),
  responses: {
    200: success,
    ...problems(...jsonBodyRefusals, 'invalid_refresh_token', 'rate_limited', 'store_unavailable'),
  },
})

const logoutRoute = createRoute({
  method: 'post',
  path: '/auth/logout',
  operationId: 'logout',
  tags: ['Accounts'],
  security: [],
  summary: 'Ends the sign-in that a refresh token belongs to, with its access tokens and sessions',
  request: requestBody(RefreshRequest),
  responses: { 204: { description: 'Signed out' }, ...problems(...jsonBodyRefusals, 'store_unavailable') },
})

const logoutAllRoute = (tokens: AccessTokens) =>
  createRoute({
    method: 'post',
    path: '/auth/logout-all',
    operationId: 'logoutAll',
    tags: ['Accounts'],
    security: [{ userToken: [] }],
    summary: 'Ends every sign-in and every session of the user',
    middleware: userGuard(tokens),
    responses: {
      204: { description: 'Signed out everywhere' },
      ...problems(...userGuardRefusals, 'unsupported_media_type', 'body_too_large'),
    },
  })

const passwordRoute = (tokens: AccessTokens) =>
  createRoute({
    method: 'post',
    path: '/auth/password',
    operationId: 'changePassword',
    tags: ['Accounts'],
    security: [{ userToken: [] }],
    summary: 'Changes the password, ends every sign-in and begins a new one',
    description: 'Sessions of the sign-in that asks continue; those of the others end.',
    middleware: userGuard(tokens),
    request: requestBody(ChangePasswordRequest),
    responses: {
      200: success,
      ...problems(...jsonBodyRefusals, ...userGuardRefusals, 'invalid_credentials', 'rate_limited', 'busy'),
    },
  })

const meRoute = (tokens: AccessTokens, limitReads: MiddlewareHandler<UserEnv>) =>
  createRoute({
    method: 'get',
    path: '/auth/me',
    operationId: 'getMe',
    tags: ['Accounts'],
    security: [{ userToken: [] }],
    summary: 'Who the access token belongs to',
    middleware: [userGuard(tokens), limitReads] as const,
    responses: {
      200: { description: 'The user', content: jsonContent(MeResponse) },
      ...problems(...userGuardRefusals, 'rate_limited'),
    },
  })

interface AuthRoutesDeps {
  accounts: Accounts
  tokens: AccessTokens
  limits: RateLimits
  limitReads: MiddlewareHandler<UserEnv>
  address: ClientAddress
  keys: SigningKeys
  config: Pick<Config, 'guests' | 'publicUrl' | 'agentScopes'>
}

/** Accounts over HTTP (sign-in, guests, refresh), and what others need in order to verify the service's tokens. */
export function authRoutes(deps: AuthRoutesDeps) {
  const { accounts, tokens, limits, limitReads, address, keys, config } = deps
  const attempt = createAttemptLimit(limits.counters)
  const label = accountLabels()
  const router = createRouter()
  router.use('/auth/*', limitBody(MAX_BODY_BYTES), jsonBody)
  // Called by the handlers: requests that are invalid, or that a web page can send without a preflight, use up no limit.
  const countSignIn = <E extends AppEnv>(c: Context<E>) => countRequest(c, limits.signIns, address(c))
  const attemptOf = <E extends AppEnv>(c: Context<E>, email: string): Attempt => ({
    account: email,
    address: address(c),
    onStanding: (...standing) => setRateLimitHeaders(c, ...standing),
  })

  return router
    .openapi(registerRoute, async (c) => {
      const bearer = optionalBearerToken(c)
      const guest = bearer === undefined ? undefined : await authenticateUser(c, tokens, bearer)
      const registration = c.req.valid('json')
      await countSignIn(c)
      if (!guest) c.set('who', { account: label(registration.email) })
      return c.json(signedIn(c, await accounts.register(registration, guest)), 201)
    })
    .openapi(loginRoute, async (c) => {
      const { email, password } = c.req.valid('json')
      c.set('who', { account: label(email) })
      await countSignIn(c)
      return c.json(signedIn(c, await attempt(attemptOf(c, email), () => accounts.login(email, password))), 200)
    })
    .openapi(guestRoute, async (c) => {
      if (!config.guests) throw new AppError('guests_disabled', 'Guest sign-in is disabled: register or sign in.')
      await countRequest(c, limits.guests, address(c))
      return c.json(signedIn(c, await accounts.guest(c.req.valid('json').name)), 201)
    })
    .openapi(refreshRoute, async (c) => {
      await countRequest(c, limits.refreshes, address(c))
      return c.json(signedIn(c, await accounts.refresh(c.req.valid('json').refresh_token)), 200)
    })
    .openapi(logoutRoute, async (c) => {
      await accounts.logout(c.req.valid('json').refresh_token)
      return c.body(null, 204)
    })
    .openapi(logoutAllRoute(tokens), async (c) => {
      await accounts.logoutAll(c.var.user)
      return c.body(null, 204)
    })
    .openapi(passwordRoute(tokens), async (c) => {
      const { current_password, new_password } = c.req.valid('json')
      const user = await accounts.me(c.var.user)
      if (user.email === null) throw AppError.field('validation_failed', 'current_password', GUEST_HAS_NO_PASSWORD)
      await countSignIn(c)
      const change = () => accounts.changePassword(user, c.var.user, current_password, new_password)
      return c.json(signedIn(c, await attempt(attemptOf(c, user.email), change)), 200)
    })
    .openapi(meRoute(tokens, limitReads), async (c) => {
      const user = await accounts.me(c.var.user)
      return c.json(meResponse(user), 200)
    })
    .route('/', wellKnownRoutes(keys, config))
}

const GUEST_HAS_NO_PASSWORD = 'A guest has no password: send it to POST /auth/register with this access token.'

function signedIn(c: CallerContext, { user, accessToken, refreshToken }: SignedIn): z.infer<typeof SignedInResponse> {
  c.set('who', { user: user.id })
  return {
    user: userResponse(user),
    access_token: accessToken,
    token_type: 'Bearer',
    expires_in: ACCESS_TOKEN_SECONDS,
    refresh_token: refreshToken,
  }
}

/** Pseudonyms for accounts in the log: stable per e-mail while the process lives, and not reversible. */
function accountLabels() {
  const key = randomBytes(32)
  return (email: string) => createHmac('sha256', key).update(email).digest('base64url').slice(0, 12)
}
