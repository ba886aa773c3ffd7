import {
  createLocalJWKSet,
  decodeJwt,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from 'jose'
import { describe, expect, test } from 'vitest'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { createAccessTokens } from '../src/auth/tokens.ts'
import { Problem } from '../src/http/problem.ts'
import { makeApp, post, type TestApp } from './support.ts'

const me = ({ app }: TestApp, bearer: string) =>
  app.request('/auth/me', { headers: { Authorization: `Bearer ${bearer}` } })

async function expectRefused(t: TestApp, token: string): Promise<void> {
  const answer = await me(t, token)
  expect(answer.status).toBe(401)
  expect(answer.headers.get('WWW-Authenticate')).toBe('Bearer error="invalid_token"')
  const text = await answer.text()
  expect(Problem.parse(JSON.parse(text)).code).toBe('invalid_token')
  expect(text).not.toContain(token)
}

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A user, and what a valid token of theirs is made of. */
async function setUp() {
  const t = await makeApp()
  const { user, access_token } = SignedInResponse.parse(await (await post(t.app, '/auth/guest', {})).json())
  const { kid, privateKey } = t.keys.current()
  const issuedAt = Math.floor(t.clock.now() / 1000)
  const header = { alg: 'ES256', typ: 'at+jwt', kid }
  const claims: JWTPayload = {
    iss: t.config.publicUrl,
    aud: t.config.publicUrl,
    sub: user.id,
    client_id: 'behalf',
    iat: issuedAt,
    exp: issuedAt + 900,
    jti: 'one',
    steady_iat: issuedAt * 1000,
    sid: decodeJwt(access_token).sid,
  }
  const sign = (changes: JWTPayload = {}, headerChanges: Partial<typeof header> = {}) =>
    new SignJWT({ ...claims, ...changes }).setProtectedHeader({ ...header, ...headerChanges }).sign(privateKey)
  return { t, user, access_token, kid, issuedAt, header, claims, sign }
}

describe('a user access token', () => {
  test('conforms to RFC 9068', async () => {
    const { t, access_token, kid, claims } = await setUp()
    const [head = '', payload = ''] = access_token.split('.')
    const parse = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString())
    expect(parse(head)).toEqual({ alg: 'ES256', typ: 'at+jwt', kid })
    expect(parse(payload)).toEqual({
      ...claims,
      jti: expect.stringMatching(/^[\w-]{36}$/),
      steady_iat: t.clock.now(),
    })
  })

  test('is verified by another service with the published keys', async () => {
    const { t, access_token, claims } = await setUp()
    const jwks = (await (await t.app.request('/.well-known/jwks.json')).json()) as JSONWebKeySet
    const { payload } = await jwtVerify(access_token, createLocalJWKSet(jwks), {
      algorithms: ['ES256'],
      typ: 'at+jwt',
      issuer: t.config.publicUrl,
      audience: t.config.publicUrl,
      currentDate: new Date(t.clock.now()),
    })
    expect(payload.sub).toBe(claims.sub)
  })

  test('built by this test with every required claim is accepted (control for the refusals)', async () => {
    const { t, sign } = await setUp()
    expect((await me(t, await sign())).status).toBe(200)
  })

  test('is valid for 15 minutes and 5 seconds of leeway (A08)', async () => {
    const { t, access_token } = await setUp()
    t.clock.advance(900)
    expect((await me(t, access_token)).status).toBe(200)
    t.clock.advance(6)
    const answer = await me(t, access_token)
    expect(answer.status).toBe(401)
    expect(Problem.parse(await answer.json()).detail).toMatch(/expired/)
  })

  test.each(['iss', 'exp', 'aud', 'sub', 'client_id', 'iat', 'jti'])('without %s is refused (A05)', async (claim) => {
    const { t, sign } = await setUp()
    await expectRefused(t, await sign({ [claim]: undefined }))
  })

  test.each<[string, JWTPayload]>([
    ['of another issuer', { iss: 'https://elsewhere.example' }],
    ['of our issuer with a slash more', { iss: 'http://localhost:8008/' }],
    ['for another audience', { aud: 'https://elsewhere.example' }],
    ['for agents', { aud: 'http://localhost:8008/agent' }],
    ['of a subject that is no user', { sub: 'tutor' }],
  ])('%s is refused', async (_, changes) => {
    const { t, sign } = await setUp()
    await expectRefused(t, await sign(changes))
  })

  test('from the future, or with too long a lifetime, is refused (A08)', async () => {
    const { t, sign, issuedAt } = await setUp()
    await expectRefused(t, await sign({ iat: issuedAt + 60, exp: issuedAt + 960, steady_iat: (issuedAt + 60) * 1000 }))
    await expectRefused(t, await sign({ nbf: issuedAt + 60 }))
    await expectRefused(t, await sign({ iat: issuedAt - 1000, exp: issuedAt + 1_000_000 }))
    await expectRefused(t, await sign({ iat: issuedAt + 1000 }))
  })

  test.each(['JWT', 'jwt', 'logout+jwt', 'dpop+jwt', ''])('of type "%s" is refused (A04)', async (typ) => {
    const { t, sign } = await setUp()
    await expectRefused(t, await sign({}, { typ }))
  })

  test('with an unknown kid or none is refused (A02)', async () => {
    const { t, header, claims, sign } = await setUp()
    await expectRefused(t, await sign({}, { kid: 'unknown' }))
    const { privateKey } = t.keys.current()
    const { kid: _, ...withoutKid } = header
    await expectRefused(t, await new SignJWT(claims).setProtectedHeader(withoutKid).sign(privateKey))
  })

  test('signed by another key under a known kid, or bringing its own key, is refused (A02)', async () => {
    const { t, header, claims } = await setUp()
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
    await expectRefused(t, await new SignJWT(claims).setProtectedHeader(header).sign(privateKey))
    const jwk = await exportJWK(publicKey)
    await expectRefused(t, await new SignJWT(claims).setProtectedHeader({ ...header, jwk }).sign(privateKey))
  })

  test('signed as HS256 with the public key as the secret is refused (A01)', async () => {
    const { t, kid, header, claims } = await setUp()
    const publicKey = t.keys.publicKey(kid)
    if (!publicKey) throw new Error('there is no public key')
    const jwk = JSON.stringify(t.keys.jwks().keys[0])
    for (const secret of [await exportSPKI(publicKey), (await exportSPKI(publicKey)).trim(), jwk]) {
      const forged = new SignJWT(claims).setProtectedHeader({ ...header, alg: 'HS256' })
      await expectRefused(t, await forged.sign(Buffer.from(secret)))
    }
  })

  test('signed with the LiveKit secret is refused', async () => {
    const { t, header, claims } = await setUp()
    const forged = new SignJWT(claims).setProtectedHeader({ ...header, alg: 'HS256' })
    await expectRefused(t, await forged.sign(Buffer.from(t.secrets.livekit.secret)))
  })

  test.each(['none', 'None', 'NONE'])('with alg %s is refused (A01)', async (alg) => {
    const { t, header, claims, access_token } = await setUp()
    const unsigned = `${base64url({ ...header, alg })}.${base64url(claims)}.`
    await expectRefused(t, unsigned)
    await expectRefused(t, unsigned + access_token.split('.')[2])
  })

  test('signed with another algorithm is refused (A01)', async () => {
    const { t, header, claims } = await setUp()
    for (const alg of ['ES384', 'RS256', 'PS256', 'EdDSA']) {
      const { privateKey } = await generateKeyPair(alg)
      await expectRefused(t, await new SignJWT(claims).setProtectedHeader({ ...header, alg }).sign(privateKey))
    }
  })

  test('with an unknown critical header is refused (A03)', async () => {
    const { t, header, claims } = await setUp()
    const { privateKey } = t.keys.current()
    const token = new SignJWT(claims).setProtectedHeader({ ...header, crit: ['exp2'], exp2: 1 })
    await expectRefused(t, await token.sign(privateKey, { crit: { exp2: true } }))
  })

  test('changed in any part is refused', async () => {
    const { t, claims, access_token } = await setUp()
    const [head = '', payload = '', signature = ''] = access_token.split('.')
    const other = base64url({ ...claims, sub: `user_${'0'.repeat(44)}` })
    await expectRefused(t, `${head}.${other}.${signature}`)
    await expectRefused(t, `${head}.${payload}.`)
    await expectRefused(t, `${head}.${payload}.${'A'.repeat(86)}`)
    await expectRefused(t, `${head}.${payload}`)
    await expectRefused(t, `${head}.${payload}.${signature}.${signature}`)
    await expectRefused(t, '...')
  })

  test('is refused on agent routes, and an agent’s on user routes (A06)', async () => {
    const { t, access_token } = await setUp()
    const tokens = createAccessTokens({
      keys: t.keys,
      users: t.store.users,
      publicUrl: t.config.publicUrl,
      clock: t.store.clock,
    })
    const agentToken = await tokens.issueAgentToken({ agentId: 'tutor', scopes: ['progress:write'], generation: 1 })
    await expectRefused(t, agentToken)
    await expect(tokens.verifyAgentToken(access_token)).rejects.toMatchObject({ code: 'invalid_token' })
    expect(await tokens.verifyAgentToken(agentToken)).toMatchObject({ agentId: 'tutor' })
  })
})

describe('the Authorization header', () => {
  test.each([
    ['two tokens', 'Bearer a.b.c, Bearer d.e.f', 400, 'invalid_request'],
    ['no token', 'Bearer ', 400, 'invalid_request'],
    ['another scheme', 'Basic YTpi', 401, 'missing_token'],
  ])('is refused with %s', async (_, header, status, code) => {
    const { app } = await makeApp()
    const answer = await app.request('/auth/me', { headers: { Authorization: header } })
    expect(answer.status).toBe(status)
    expect(Problem.parse(await answer.json()).code).toBe(code)
  })

  test('may write the scheme in any case', async () => {
    const { t, access_token } = await setUp()
    const answer = await t.app.request('/auth/me', { headers: { Authorization: `bearer ${access_token}` } })
    expect(answer.status).toBe(200)
  })
})

describe('the published metadata', () => {
  test('publishes only public keys, cacheable for five minutes (A10)', async () => {
    const { app } = await makeApp()
    const answer = await app.request('/.well-known/jwks.json')
    expect(answer.status).toBe(200)
    expect(answer.headers.get('Content-Type')).toMatch(/^application\/json/)
    expect(answer.headers.get('Cache-Control')).toBe('public, max-age=300')
    const { keys } = (await answer.json()) as { keys: Array<Record<string, string>> }
    expect(keys).toHaveLength(1)
    expect(Object.keys(keys[0] ?? {}).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'])
    expect(keys[0]).toMatchObject({ kty: 'EC', crv: 'P-256', alg: 'ES256', use: 'sig' })
  })

  test('names the token endpoint for agents (A31)', async () => {
    const { app } = await makeApp({ env: { PUBLIC_URL: 'https://api.example.com/' } })
    const answer = await app.request('/.well-known/oauth-authorization-server')
    expect(answer.status).toBe(200)
    expect(await answer.json()).toEqual({
      issuer: 'https://api.example.com',
      token_endpoint: 'https://api.example.com/agent/token',
      jwks_uri: 'https://api.example.com/.well-known/jwks.json',
      scopes_supported: ['progress:write', 'context:read', 'session:end', 'rooms:join', 'sessions:any', 'calls:place'],
      response_types_supported: [],
      grant_types_supported: ['client_credentials'],
      token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
    })
  })
})
