import { generateKeyPairSync, sign as signBytes } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { agentClaims, FORGERIES, type Forgery, userClaims } from './forged.ts'
import { callingScene, refusal } from './scene.ts'

type Setting = Awaited<ReturnType<typeof callingScene>>
type Json = Record<string, unknown>

let setting: Setting
beforeAll(async () => {
  setting = await callingScene()
})

const ourKey = () => setting.s.keys.current().privateKey
const base64url = (text: string | Buffer) => Buffer.from(text).toString('base64url')

/** Signs whatever it is given by our own key, as no JOSE library would: the signature is right, the rest need not be. */
function sealed(header: string | Json, payload: string | Json, change: (input: string) => string = (input) => input) {
  const json = (part: string | Json) => base64url(typeof part === 'string' ? part : JSON.stringify(part))
  const input = change(`${json(header)}.${json(payload)}`)
  const key = { key: ourKey(), dsaEncoding: 'ieee-p1363' as const }
  return `${input}.${base64url(signBytes('sha256', Buffer.from(input), key))}`
}

/** The valid header and claims that a row changes. */
interface Right {
  header: { alg: string; typ: string; kid: string }
  claims: Omit<ReturnType<typeof userClaims>, 'sid'>
}

const raw = (value: unknown) => JSON.stringify(value)
/** An attacker's key, for the attacks that put a key in the header. */
const theirs = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const withoutSignature = (token: string) => token.slice(0, token.lastIndexOf('.') + 1)
const signatureOf = (token: string) => Buffer.from(token.slice(token.lastIndexOf('.') + 1), 'base64url')

const MALFORMED: Record<string, (right: Right) => string> = {
  // the serialisation
  'of two parts': ({ header, claims }) => withoutSignature(sealed(header, claims)).slice(0, -1),
  'of four parts': ({ header, claims }) => `${sealed(header, claims)}.AAAA`,
  'of five parts, as an encrypted one': ({ header, claims }) => `${sealed(header, claims)}.AAAA.AAAA`,
  'of dots': () => '....',
  'with an empty header': ({ claims }) => sealed('', claims),
  'with an empty payload': ({ header }) => sealed(header, ''),
  'with padding': ({ header, claims }) => `${sealed(header, claims)}==`,
  'in base64 with + and /': ({ header, claims }) =>
    sealed({ ...header, x: '>>>???' }, claims, (input) => input.replaceAll('-', '+').replaceAll('_', '/')),
  'with a dot before': ({ header, claims }) => `.${sealed(header, claims)}`,
  'twice in a row': ({ header, claims }) => sealed(header, claims).repeat(2),
  'in JSON serialisation': ({ header, claims }) => {
    const [head, payload, signature] = sealed(header, claims).split('.')
    return base64url(raw({ protected: head, payload, signature }))
  },
  // the header
  'whose header is no JSON': ({ claims }) => sealed('alg=ES256', claims),
  'whose header is a list': ({ claims }) => sealed('["ES256"]', claims),
  'whose header is null': ({ claims }) => sealed('null', claims),
  'whose header is cut off': ({ header, claims }) => sealed(raw(header).slice(0, -1), claims),
  'whose header is not UTF-8': ({ header, claims }) =>
    sealed(header, claims, (input) => `${base64url(Buffer.from([0x7b, 0xff, 0xfe, 0x7d]))}.${input.split('.')[1]}`),
  'without alg': ({ header: { alg: _, ...header }, claims }) => sealed(header, claims),
  'with alg as a list': ({ header, claims }) => sealed({ ...header, alg: ['ES256'] }, claims),
  'with alg in lower case': ({ header, claims }) => sealed({ ...header, alg: 'es256' }, claims),
  'with alg named twice, none last': ({ header, claims }) => sealed(raw(header).replace('}', ',"alg":"none"}'), claims),
  'with alg ES256K': ({ header, claims }) => sealed({ ...header, alg: 'ES256K' }, claims),
  'without typ': ({ header: { typ: _, ...header }, claims }) => sealed(header, claims),
  'with typ as a list': ({ header, claims }) => sealed({ ...header, typ: ['at+jwt'] }, claims),
  'of type dpop+jwt': ({ header, claims }) => sealed({ ...header, typ: 'dpop+jwt' }, claims),
  'of type secevent+jwt': ({ header, claims }) => sealed({ ...header, typ: 'secevent+jwt' }, claims),
  'without kid': ({ header: { kid: _, ...header }, claims }) => sealed(header, claims),
  'with kid as a number': ({ header, claims }) => sealed({ ...header, kid: 0 }, claims),
  'with kid as a path': ({ header, claims }) => sealed({ ...header, kid: '../../../dev/null' }, claims),
  'with kid as SQL': ({ header, claims }) => sealed({ ...header, kid: "' UNION SELECT 'x' --" }, claims),
  'with kid as a property of every object': ({ header, claims }) => sealed({ ...header, kid: '__proto__' }, claims),
  'with kid as a URL': ({ header, claims }) => sealed({ ...header, kid: 'http://127.0.0.1:1/key' }, claims),
  'with unknown crit': ({ header, claims }) => sealed({ ...header, crit: ['exp2'], exp2: 1 }, claims),
  'with empty crit': ({ header, claims }) => sealed({ ...header, crit: [] }, claims),
  'with crit as a string': ({ header, claims }) => sealed({ ...header, crit: 'exp' }, claims),
  'with an unencoded payload (b64)': ({ header, claims }) => sealed({ ...header, b64: false, crit: ['b64'] }, claims),
  'with jku, and an unknown kid': ({ header, claims }) =>
    sealed({ ...header, kid: 'theirs', jku: 'http://127.0.0.1:1/jwks.json' }, claims),
  'with x5u, and an unknown kid': ({ header, claims }) =>
    sealed({ ...header, kid: 'theirs', x5u: 'http://127.0.0.1:1/x.pem' }, claims),
  'with x5c, and an unknown kid': ({ header, claims }) => sealed({ ...header, kid: 'theirs', x5c: ['MIIB'] }, claims),
  'with jwk, and an unknown kid': ({ header, claims }) =>
    sealed({ ...header, kid: 'theirs', jwk: theirs.publicKey.export({ format: 'jwk' }) }, claims),
  'that is compressed': ({ header, claims }) => sealed({ ...header, zip: 'DEF' }, 'x'.repeat(raw(claims).length)),
  // the payload
  'whose payload is no JSON': ({ header }) => sealed(header, 'sub=user_1'),
  'whose payload is a list': ({ header, claims }) => sealed(header, raw([claims])),
  'whose payload is a string': ({ header }) => sealed(header, '"user_1"'),
  'whose payload is null': ({ header }) => sealed(header, 'null'),
  'whose payload is nested without end': ({ header }) => sealed(header, '{"a":'.repeat(2000)),
  'with exp as text': ({ header, claims }) => sealed(header, { ...claims, exp: String(claims.exp) }),
  'with exp as null': ({ header, claims }) => sealed(header, { ...claims, exp: null }),
  'with exp in milliseconds': ({ header, claims }) => sealed(header, { ...claims, exp: claims.exp * 1000 }),
  'with exp beyond numbers': ({ header, claims }) => sealed(header, raw(claims).replace(/"exp":\d+/, '"exp":1e999')),
  'with exp named twice, long ago last': ({ header, claims }) =>
    sealed(header, raw(claims).replace(/\}$/, ',"exp":1}')),
  'with iat as text': ({ header, claims }) => sealed(header, { ...claims, iat: String(claims.iat) }),
  'with iat in a year': ({ header, claims }) =>
    sealed(header, { ...claims, iat: claims.iat + 31e6, exp: claims.exp + 31e6, steady_iat: claims.steady_iat + 31e9 }),
  'without steady_iat': ({ header, claims: { steady_iat: _, ...claims } }) => sealed(header, claims),
  'with steady_iat as text': ({ header, claims }) =>
    sealed(header, { ...claims, steady_iat: String(claims.steady_iat) }),
  'with steady_iat a quarter of an hour ago': ({ header, claims }) =>
    sealed(header, { ...claims, steady_iat: claims.steady_iat - 905_000 }),
  'with nbf in an hour': ({ header, claims }) => sealed(header, { ...claims, nbf: claims.iat + 3600 }),
  'with nbf as text': ({ header, claims }) => sealed(header, { ...claims, nbf: 'now' }),
  'with iss as a list': ({ header, claims }) => sealed(header, { ...claims, iss: [claims.iss] }),
  'with iss in capitals': ({ header, claims }) => sealed(header, { ...claims, iss: claims.iss.toUpperCase() }),
  'with aud as an object': ({ header, claims }) => sealed(header, { ...claims, aud: { [claims.aud]: true } }),
  'with no audience in the list': ({ header, claims }) => sealed(header, { ...claims, aud: [] }),
  'with aud as a prefix of the right one': ({ header, claims }) =>
    sealed(header, { ...claims, aud: claims.aud.slice(0, -1) }),
  'with sub as a number': ({ header, claims }) => sealed(header, { ...claims, sub: 1 }),
  'with an empty sub': ({ header, claims }) => sealed(header, { ...claims, sub: '' }),
  'with sub as a list': ({ header, claims }) => sealed(header, { ...claims, sub: [claims.sub] }),
  'with no jti': ({ header, claims: { jti: _, ...claims } }) => sealed(header, claims),
  'with no client_id': ({ header, claims: { client_id: _, ...claims } }) => sealed(header, claims),
  // the signature
  'with a signature of zeros (CVE-2022-21449)': ({ header, claims }) =>
    withoutSignature(sealed(header, claims)) + base64url(Buffer.alloc(64)),
  'with a signature in DER': ({ header, claims }) => {
    const input = withoutSignature(sealed(header, claims)).slice(0, -1)
    return `${input}.${base64url(signBytes('sha256', Buffer.from(input), ourKey()))}`
  },
  'with half a signature': ({ header, claims }) => {
    const token = sealed(header, claims)
    return withoutSignature(token) + base64url(signatureOf(token).subarray(0, 32))
  },
  'with extra bytes after the signature': ({ header, claims }) => {
    const token = sealed(header, claims)
    return withoutSignature(token) + base64url(Buffer.concat([signatureOf(token), Buffer.alloc(1)]))
  },
  'with one bit of the signature turned': ({ header, claims }) => {
    const token = sealed(header, claims)
    const signature = signatureOf(token)
    signature[10] = (signature[10] ?? 0) ^ 1
    return withoutSignature(token) + base64url(signature)
  },
  'with the signature of another token': ({ header, claims }) =>
    withoutSignature(sealed(header, claims)) + base64url(signatureOf(sealed(header, { ...claims, jti: 'another' }))),
  'with SHA-384 under the same name': ({ header, claims }) => {
    const input = withoutSignature(sealed(header, claims)).slice(0, -1)
    const key = { key: ourKey(), dsaEncoding: 'ieee-p1363' as const }
    return `${input}.${base64url(signBytes('sha384', Buffer.from(input), key))}`
  },
  'with a key of somebody else': ({ header, claims }) => {
    const input = withoutSignature(sealed(header, claims)).slice(0, -1)
    const key = { key: theirs.privateKey, dsaEncoding: 'ieee-p1363' as const }
    return `${input}.${base64url(signBytes('sha256', Buffer.from(input), key))}`
  },
}

const KINDS = {
  'a user’s': {
    claims: () => userClaims(setting.s, setting.user),
    ask: (token: string) => setting.s.get('/auth/me', token),
  },
  'an agent’s': {
    claims: () => agentClaims(setting.s, setting.agent.id),
    ask: (token: string) => setting.s.context(token, setting.pair),
  },
}
const header = () => ({ alg: 'ES256', typ: 'at+jwt', kid: setting.s.keys.current().kid })

test('the table of malformed tokens is complete', () => {
  expect(Object.keys(MALFORMED).length).toBeGreaterThanOrEqual(60)
})

describe.each(Object.entries(KINDS))('%s token', (_, { claims, ask }) => {
  test('built by this table is accepted when nothing is wrong with it', async () => {
    expect((await ask(sealed(header(), claims()))).status).toBe(200)
    // RFC 7519 §4.1.3: an audience may be a list.
    expect((await ask(sealed(header(), { ...claims(), aud: ['https://x.example', claims().aud] }))).status).toBe(200)
  })

  test.each(Object.keys(MALFORMED))('%s is refused', async (name) => {
    const token = MALFORMED[name]?.({ header: header(), claims: claims() }) ?? ''
    const answer = await ask(token)
    const { status, code } = await refusal(answer)
    // What is not even one bearer token by RFC 6750 §2.1 is another refusal.
    expect([`401 invalid_token`, `400 invalid_request`]).toContain(`${status} ${code}`)
    if (/^[\w.-]+$/.test(token)) expect(code).toBe('invalid_token')
  })

  test.each(Object.keys(FORGERIES) as Forgery[])('%s is refused', async (name) => {
    const token = await FORGERIES[name](setting.s, claims())
    expect(await refusal(ask(token))).toEqual({ status: 401, code: 'invalid_token' })
  })
})
