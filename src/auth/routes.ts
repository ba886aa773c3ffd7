import { createRoute, type z } from '@hono/zod-openapi'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { clientAddress } from '../http/address.ts'
import { optionalBearerToken } from '../http/bearer.ts'
import { jsonBody, limitBody, MAX_BODY_BYTES } from '../http/body.ts'
import { problems } from '../http/problem.ts'
import { createRouter } from '../http/router.ts'
import type { Accounts, SignedIn } from './accounts.ts'
import { userGuard } from './guards.ts'
import { guestLimit } from './guest-limit.ts'
import { GuestBody, LoginBody, MeAnswer, RefreshTokenBody, RegisterBody, SignedInAnswer } from './schemas.ts'
import type { User } from './store.ts'
import { ACCESS_TOKEN_SECONDS, type AccessTokens } from './tokens.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const requestBody = <S extends z.ZodType>(schema: S) => ({ body: { required: true, content: json(schema) } })
const signedIn = { description: 'Signed in', content: json(SignedInAnswer) }
const badBody = ['malformed_json', 'body_too_large', 'unsupported_media_type', 'validation_failed'] as const
const depends = ['store_unavailable'] as const

const registerRoute = createRoute({
  method: 'post',
  path: '/auth/register',
  operationId: 'register',
  tags: ['Accounts'],
  security: [{}, { userToken: [] }],
  summary: 'Makes an account; with the bearer of a guest, upgrades that guest',
  request: requestBody(RegisterBody),
  responses: {
    201: signedIn,
    ...problems(...badBody, 'invalid_request', 'missing_token', 'invalid_token'),
    ...problems('email_taken', 'already_registered', 'busy', ...depends),
  },
})

const loginRoute = createRoute({
  method: 'post',
  path: '/auth/login',
  operationId: 'login',
  tags: ['Accounts'],
  security: [],
  summary: 'Signs in with e-mail and password',
  request: requestBody(LoginBody),
  responses: { 200: signedIn, ...problems(...badBody, 'invalid_credentials', 'busy', ...depends) },
})

const guestRoute = createRoute({
  method: 'post',
  path: '/auth/guest',
  operationId: 'continueAsGuest',
  tags: ['Accounts'],
  security: [],
  summary: 'Makes a guest: a user without e-mail and password',
  request: requestBody(GuestBody),
  responses: { 201: signedIn, ...problems(...badBody, 'guests_disabled', 'rate_limited', ...depends) },
})

const refreshRoute = createRoute({
  method: 'post',
  path: '/auth/refresh',
  operationId: 'refresh',
  tags: ['Accounts'],
  security: [],
  summary: 'Trades a refresh token for the next one and a new access token',
  request: requestBody(RefreshTokenBody),
  responses: { 200: signedIn, ...problems(...badBody, 'invalid_refresh_token', ...depends) },
})

const logoutRoute = createRoute({
  method: 'post',
  path: '/auth/logout',
  operationId: 'logout',
  tags: ['Accounts'],
  security: [],
  summary: 'Ends the sign-in that a refresh token belongs to',
  request: requestBody(RefreshTokenBody),
  responses: { 204: { description: 'Signed out' }, ...problems(...badBody, ...depends) },
})

const meRoute = (tokens: AccessTokens) =>
  createRoute({
    method: 'get',
    path: '/auth/me',
    operationId: 'getMe',
    tags: ['Accounts'],
    security: [{ userToken: [] }],
    summary: 'Who the access token belongs to',
    middleware: userGuard(tokens),
    responses: {
      200: { description: 'The user', content: json(MeAnswer) },
      ...problems('missing_token', 'invalid_token', 'invalid_request', ...depends),
    },
  })

export interface AuthRoutesDeps {
  accounts: Accounts
  tokens: AccessTokens
  config: Pick<Config, 'guests' | 'guestsPerAddressPerHour'>
}

/** Accounts over HTTP: sign-in, guests, refresh. */
export function authRoutes({ accounts, tokens, config }: AuthRoutesDeps) {
  const countGuest = guestLimit(config.guestsPerAddressPerHour)
  const router = createRouter()
  router.use('/auth/*', limitBody(MAX_BODY_BYTES), jsonBody, async function noStore(c, next) {
    // RFC 6749 §5.1: answers with tokens are never cached.
    c.header('Cache-Control', 'no-store')
    await next()
  })
  return router
    .openapi(registerRoute, async (c) => {
      const bearer = optionalBearerToken(c)
      const guest = bearer === undefined ? undefined : await tokens.verifyUserToken(bearer)
      return c.json(signedInAnswer(await accounts.register(c.req.valid('json'), guest)), 201)
    })
    .openapi(loginRoute, async (c) => {
      const { email, password } = c.req.valid('json')
      return c.json(signedInAnswer(await accounts.login(email, password)), 200)
    })
    .openapi(guestRoute, async (c) => {
      if (!config.guests) throw new AppError('guests_disabled', 'There are no guests here: register or sign in.')
      await countGuest(clientAddress(c))
      return c.json(signedInAnswer(await accounts.guest(c.req.valid('json').name)), 201)
    })
    .openapi(refreshRoute, async (c) =>
      c.json(signedInAnswer(await accounts.refresh(c.req.valid('json').refresh_token)), 200),
    )
    .openapi(logoutRoute, async (c) => {
      await accounts.logout(c.req.valid('json').refresh_token)
      return c.body(null, 204)
    })
    .openapi(meRoute(tokens), async (c) => {
      const user = await accounts.me(c.var.user)
      return c.json({ ...userAnswer(user), guest: user.email === null }, 200)
    })
}

const userAnswer = ({ id, email, name }: User) => ({
  id,
  ...(email === null ? {} : { email }),
  ...(name === null ? {} : { name }),
})

const signedInAnswer = ({ user, accessToken, refreshToken }: SignedIn): z.infer<typeof SignedInAnswer> => ({
  user: userAnswer(user),
  access_token: accessToken,
  token_type: 'Bearer',
  expires_in: ACCESS_TOKEN_SECONDS,
  refresh_token: refreshToken,
})
