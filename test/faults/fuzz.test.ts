import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { describeApi, operationsOf } from '../../src/ops/openapi.ts'
import { basic } from '../agent-client.ts'
import { takeViolations } from '../documented.ts'
import { type Scene, scene } from '../scene.ts'
import { webhookToken } from '../sfu.ts'
import { type Imagined, imaginedRequests } from './fuzz-request.ts'
import { newWorld, type World } from './fuzz-world.ts'
import { report, SEED, sized } from './size.ts'

// Hashing alone would take hours; what it costs and what it keeps is tested in auth.test.ts.
vi.mock('@node-rs/argon2', () => {
  const hash = async (password: string) =>
    `$argon2id$v=19$m=19456,t=2,p=1$AAAA$${createHash('sha256').update(password).digest('base64url')}`
  return { hash, verify: async (stored: string, password: string) => stored === (await hash(password)) }
})

const REQUESTS = sized(10_000, 100_000)
/** Sessions end and tokens are used up, so users and sessions are replaced after this many requests. */
const RENEW_EVERY = 150

const asText = (value: unknown) => (typeof value === 'string' ? value : (JSON.stringify(value) ?? ''))
const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null
const pairs = (value: unknown): Array<[string, string]> =>
  isObject(value) ? Object.entries(value).map(([key, one]) => [key, asText(one)]) : [[asText(value), '']]
const urlEncoded = (value: unknown) => new URLSearchParams(pairs(value)).toString()

function pathOf({ path, params }: Imagined, { filled }: World): string {
  const encoded = (value: unknown) => encodeURIComponent(wellFormed(asText(filled(value)))) || 'x'
  return Object.entries(params).reduce((all, [name, value]) => all.replace(`{${name}}`, encoded(value)), path)
}

/** A lone surrogate has no UTF-8. */
const wellFormed = (text: string) => Buffer.from(text).toString()

function bodyOf({ body, method }: Imagined, { filled }: World): string | Uint8Array<ArrayBuffer> | null {
  if (body === null || method === 'GET' || method === 'HEAD') return null
  if (body.kind === 'text') return body.value
  if (body.kind === 'bytes') return new Uint8Array(body.value)
  return body.kind === 'json' ? asJson(filled(body.value)) : urlEncoded(filled(body.value))
}

const asJson = (value: unknown) => JSON.stringify(value) ?? ''

async function authorizationOf({ credential }: Imagined, { bearers, agent }: World, s: Scene, body: unknown) {
  if (credential === 'basic') return basic(agent.id, agent.secret).Authorization
  if (credential === 'nonsense') return 'Bearer a, Bearer b'
  if (credential === 'webhook') return webhookToken(String(body ?? ''), { ...s.secrets.webhook, at: s.clock.now() })
  const bearer = bearers[credential]
  return bearer && `Bearer ${bearer}`
}

async function requestOf(s: Scene, world: World, imagined: Imagined): Promise<Request> {
  const query = urlEncoded(world.filled(imagined.query))
  const body = bodyOf(imagined, world)
  const headers = new Headers(imagined.headers)
  const authorization = await authorizationOf(imagined, world, s, body)
  if (authorization) headers.set('Authorization', authorization)
  if (imagined.contentType) headers.set('Content-Type', imagined.contentType)
  const url = `http://localhost${pathOf(imagined, world)}${query ? `?${query}` : ''}`
  return new Request(url, { method: imagined.method, headers, body })
}

test(`${REQUESTS} random requests get no 5xx and no undocumented answer`, async () => {
  const s = await scene({ env: { GUESTS_PER_ADDRESS_PER_HOUR: '1000000', LOG_LEVEL: 'silent' } })
  s.health.ready = true
  const document = describeApi(s.app, { publicUrl: 'https://api.behalf.test', version: '1' })
  const statuses = new Map<string, number>()
  const started = performance.now()
  let sent = 0
  let world = await newWorld(s, 0)

  await fc.assert(
    fc.asyncProperty(imaginedRequests(document), async (imagined) => {
      if (++sent % RENEW_EVERY === 0) world = await newWorld(s, sent)
      const request = await requestOf(s, world, imagined)
      const environment = { incoming: { socket: { remoteAddress: imagined.address } } }
      const answer = await s.app.request(request, undefined, environment)
      await answer.body?.cancel()
      const key = `${imagined.operation} ${answer.status}`
      statuses.set(key, (statuses.get(key) ?? 0) + 1)
      expect(answer.status, `${imagined.method} ${request.url}`).toBeLessThan(500)
      expect(takeViolations()).toEqual([])
    }),
    // A smaller request would meet another state of the service: the first that is found says more.
    { numRuns: REQUESTS, seed: SEED, endOnFailure: true },
  )

  const byStatus: Record<string, number> = {}
  for (const [key, count] of statuses) {
    const status = key.slice(-3)
    byStatus[status] = (byStatus[status] ?? 0) + count
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  report('fuzzed requests', { seed: SEED, sent, seconds, ...byStatus })
  // Otherwise the service only rejected it before routing.
  for (const { method, path } of operationsOf(document)) {
    const operation = `${method.toUpperCase()} ${path}`
    const succeeded = [...statuses.keys()].some((key) => key.startsWith(`${operation} 2`))
    expect(succeeded, `${operation} succeeded`).toBe(true)
  }
})
