import { createHmac } from 'node:crypto'
import { decodeJwt } from 'jose'
import { describe, expect, test } from 'vitest'
import { joinedScene, refusal, type Scene } from './scene.ts'
import { signedWebhook, webhookEvent, webhookToken } from './sfu.ts'

const INVALID = { status: 401, code: 'invalid_token' }
const MALFORMED = { status: 400, code: 'malformed_json' }

const send = ({ app }: Scene, body: string, headers: Record<string, string>) =>
  app.request('/livekit/webhook', { method: 'POST', body, headers })

describe('a webhook is refused', () => {
  type Signed = Awaited<ReturnType<typeof signedWebhook>>
  type Setup = { s: Scene; signed: Signed; joinToken: string }

  test.each<[string, (setup: Setup) => Promise<{ body?: string; token?: string | null }>]>([
    ['without a header', async () => ({ token: null })],
    ['with a Bearer prefix', async ({ signed }) => ({ token: `Bearer ${signed.headers.Authorization}` })],
    ['with a malformed token', async () => ({ token: 'a.b.c' })],
    ['with a tampered body', async ({ signed }) => ({ body: signed.body.replace('joined', 'left') })],
    ['with one space more', async ({ signed }) => ({ body: `${signed.body} ` })],
    ['with another secret', async ({ s, signed: { body } }) => ({ token: await sign(s, body, { secret: 'another' }) })],
    ['with another key’s name', async ({ s, signed: { body } }) => ({ token: await sign(s, body, { key: 'other' }) })],
    ['with HS512', async ({ s, signed: { body } }) => ({ token: await sign(s, body, { alg: 'HS512' }) })],
    [
      'more than a minute after its five',
      async ({ s }) => {
        s.clock.advance(5 * 60 + 60)
        return {}
      },
    ],
    [
      'more than a minute after its five, even if it is signed for an hour',
      async ({ s, signed: { body } }) => {
        const token = await sign(s, body, { seconds: 3600 })
        s.clock.advance(5 * 60 + 61)
        return { token }
      },
    ],
    [
      'more than a minute after its expiry, even if its five are not over',
      async ({ s, signed: { body } }) => {
        const token = await sign(s, body, { seconds: 10 })
        s.clock.advance(10 + 60)
        return { token }
      },
    ],
    [
      'more than a minute before its time',
      async ({ s, signed: { body } }) => ({ token: await sign(s, body, { at: s.clock.now() + 61_000 }) }),
    ],
    ['with a join token', async ({ joinToken }) => ({ token: joinToken })],
    ['without an expiry', async (setup) => ({ token: sealed(setup, { claims: { exp: undefined } }) })],
    ['without the body’s hash', async (setup) => ({ token: sealed(setup, { claims: { sha256: undefined } }) })],
    ['with a hash of the wrong type', async (setup) => ({ token: sealed(setup, { claims: { sha256: [1, 2] } }) })],
    [
      'without a signature',
      async ({ signed }) => {
        const [, claims] = signed.headers.Authorization.split('.')
        return { token: `${Buffer.from('{"alg":"none"}').toString('base64url')}.${claims}.` }
      },
    ],
    ['with half a signature', async ({ signed }) => ({ token: signed.headers.Authorization.slice(0, -22) })],
    [
      'with one bit of the signature turned',
      async ({ signed: { headers } }) => {
        const [head, claims, signature = ''] = headers.Authorization.split('.')
        const bytes = Buffer.from(signature, 'base64url')
        bytes[31] = (bytes[31] ?? 0) ^ 1
        return { token: `${head}.${claims}.${bytes.toString('base64url')}` }
      },
    ],
    [
      'with its signature spelled differently',
      async ({ signed: { headers } }) => {
        // The last character holds two bits that belong to no byte.
        const last = 'AEIMQUYcgkosw048'.indexOf(headers.Authorization.at(-1) ?? '')
        return { token: headers.Authorization.slice(0, -1) + 'BFJNRVZdhlptx159'[last] }
      },
    ],
    ['with padding', async ({ signed }) => ({ token: `${signed.headers.Authorization}=` })],
    ['with a fourth part', async ({ signed }) => ({ token: `${signed.headers.Authorization}.AAAA` })],
    ['whose header says HS512', async (setup) => ({ token: sealed(setup, { header: { alg: 'HS512' } }) })],
    ['whose header says none', async (setup) => ({ token: sealed(setup, { header: { alg: 'none' } }) })],
    ['whose header says no algorithm', async (setup) => ({ token: sealed(setup, { header: {} }) })],
    ['whose header is null', async (setup) => ({ token: sealed(setup, { header: null }) })],
    [
      'with a critical extension',
      async (setup) => ({ token: sealed(setup, { header: { alg: 'HS256', crit: ['exp2'], exp2: 1 } }) }),
    ],
    ['with exp as text', async (setup) => ({ token: sealed(setup, { claims: { exp: '4000000000' } }) })],
    [
      'with nbf as text',
      async (setup) => ({ token: sealed(setup, { claims: { nbf: `${Math.floor(setup.s.clock.now() / 1000)}` } }) }),
    ],
    ['without nbf', async (setup) => ({ token: sealed(setup, { claims: { nbf: undefined } }) })],
    ['without an issuer', async (setup) => ({ token: sealed(setup, { claims: { iss: undefined } }) })],
    ['with the issuer in a list', async (setup) => ({ token: sealed(setup, { claims: { iss: ['devkey'] } }) })],
    ['with no claims', async (setup) => ({ token: sealed(setup, { claims: null }) })],
  ])('%s', async (_, change) => {
    const { s, leg, joinToken, status, statuses } = await joinedScene()
    const signed = await signedWebhook(s, webhookEvent('participant_joined', leg))
    const { body = signed.body, token = signed.headers.Authorization } = await change({ s, signed, joinToken })
    const answer = send(s, body, token === null ? {} : { Authorization: token })
    expect(await refusal(answer)).toEqual(INVALID)
    expect(await status()).toBe('pending')
    expect(await statuses()).toEqual([])
    expect(await s.store.sessions.lastWebhookAt()).toBeNull()
  })

  test('only if something is wrong with it (control for the tokens built here)', async () => {
    const { s, leg } = await joinedScene()
    const signed = await signedWebhook(s, webhookEvent('participant_joined', leg))
    expect((await send(s, signed.body, { Authorization: sealed({ s, signed }) })).status).toBe(200)
  })

  test('signed with the main key pair when webhooks have their own', async () => {
    const env = { LIVEKIT_WEBHOOK_API_KEY: 'hooks', LIVEKIT_WEBHOOK_API_SECRET: 'a secret of their own' }
    const { s, leg, status } = await joinedScene({ env })
    const { body } = await signedWebhook(s, webhookEvent('participant_joined', leg))
    const token = await webhookToken(body, { ...s.secrets.livekit, at: s.clock.now() })
    expect(await refusal(send(s, body, { Authorization: token }))).toEqual(INVALID)
    expect(await status()).toBe('pending')
    const right = await webhookToken(body, { ...s.secrets.webhook, at: s.clock.now() })
    expect((await send(s, body, { Authorization: right })).status).toBe(200)
    expect(await status()).toBe('live')
  })

  test.each([
    ['not JSON', '{'],
    ['empty', ''],
    ['an empty object', '{}'],
    ['a list', '[]'],
    ['null', 'null'],
    ['another object', '{"hello":"world"}'],
    ['an event with an invalid participant', '{"id":"EV_1","event":"participant_joined","participant":7}'],
    ['nested without end', `{"id":"EV_1","room":${'['.repeat(100_000)}`],
  ])('with a signed body that is %s', async (_, body) => {
    const { s } = await joinedScene()
    const token = await webhookToken(body, { ...s.secrets.webhook, at: s.clock.now() })
    expect(await refusal(send(s, body, { Authorization: token }))).toEqual(MALFORMED)
    expect(await s.store.sessions.lastWebhookAt()).toBeNull()
  })

  test.each<[string, (s: Scene) => Promise<string>]>([
    ['credentials', async () => 'a.b.c'],
    [
      'a hash of its body',
      async (s) => sealed({ s, signed: await signedWebhook(s, {}) }, { claims: { sha256: undefined } }),
    ],
  ])('without %s before its body is read', async (_, token) => {
    const { s } = await joinedScene()
    let read = 0
    const body = new ReadableStream({
      pull(controller) {
        read++
        controller.enqueue(new Uint8Array(1024))
        if (read === 100) controller.close()
      },
    })
    const init = { method: 'POST', body, duplex: 'half', headers: { Authorization: await token(s) } }
    // In-process, past the helpers of the test app, which read a copy of every body themselves.
    const answer = await s.bare(new Request('http://localhost/livekit/webhook', init as RequestInit))
    expect(await refusal(answer)).toEqual(INVALID)
    // What a stream fetches ahead by itself.
    expect(read).toBeLessThanOrEqual(1)
  })
})

function sign(s: Scene, body: string, change: Partial<Parameters<typeof webhookToken>[1]>) {
  return webhookToken(body, { ...s.secrets.webhook, at: s.clock.now(), ...change })
}

/** A webhook's token, with these changes and a right HS256 signature. */
function sealed(
  { s, signed }: { s: Scene; signed: Awaited<ReturnType<typeof signedWebhook>> },
  { header = { alg: 'HS256' }, claims = {} }: { header?: object | null; claims?: object | null } = {},
): string {
  const parts = [header, claims && { ...decodeJwt(signed.headers.Authorization), ...claims }]
  const input = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  return `${input}.${createHmac('sha256', s.secrets.webhook.secret).update(input).digest('base64url')}`
}
