import fc, { type Arbitrary } from 'fast-check'
import { type ApiDocument, operationsOf } from '../../src/ops/openapi.ts'
import { arbitraries, mutate, mutation, NASTY, type Schema } from './fuzz-schema.ts'
import { webhook } from './fuzz-webhook.ts'
import { CREDENTIALS, type Credential, MEANT_BY_NAME } from './fuzz-world.ts'

/** A request as it was thought up, before the world fills it in. */
export interface Imagined {
  operation: string
  method: string
  path: string
  params: Record<string, unknown>
  query: Record<string, unknown>
  headers: Record<string, string>
  body: ImaginedBody | null
  contentType: string | undefined
  credential: Credential
  address: string
}

export type ImaginedBody =
  | { kind: 'json' | 'form'; value: unknown }
  | { kind: 'text'; value: string }
  | { kind: 'bytes'; value: Uint8Array }

interface Parameter {
  name: string
  in: string
  schema: Schema
  required?: boolean
}

type Route = ReturnType<typeof operationsOf>[number]

const METHODS = ['HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']
const HEADERS = ['Accept', 'Origin', 'X-Forwarded-For', 'X-Request-Id', 'Idempotency-Key', 'Last-Event-ID']
const QUERY = ['limit', 'after', 'access_token', 'client_secret', '__proto__']
const ADDRESSES = ['192.0.2.1', '2001:db8::1', '::ffff:192.0.2.7', 'unix', '']
const CONTENT_TYPES = [
  undefined,
  'text/plain',
  'application/json; charset=utf-16',
  'multipart/form-data',
  'application/x-www-form-urlencoded',
  'a',
  '',
]
const BODIES = [...NASTY, '{"a":1', '['.repeat(30_000), `{"a":${'['.repeat(3000)}`, '\ufeff{}', '"'.repeat(70_000)]

/** Mostly the first, one time in so many the second. */
const mostly = <A, B>(oneIn: number, usual: Arbitrary<A>, other: Arbitrary<B>) =>
  fc.oneof({ weight: oneIn - 1, arbitrary: usual }, { weight: 1, arbitrary: other })

/** Requests for every operation of the document: most of them valid, nearly valid, or wild. */
export function imaginedRequests(document: ApiDocument): Arbitrary<Imagined> {
  const { valid } = arbitraries((document.components?.schemas ?? {}) as Record<string, Schema>, MEANT_BY_NAME)
  const routes = operationsOf(document)
  return fc.oneof(...routes.map((route) => ({ weight: weightOf(route), arbitrary: requestsOf(route, valid) })))
}

/** What has nothing to get wrong is asked less often: documents are long. */
const weightOf = ({ path }: Route) => (/^\/(openapi|docs|health|\.well-known)/.test(path) ? 1 : 8)

type Valid = ReturnType<typeof arbitraries>['valid']

function requestsOf(route: Route, valid: Valid): Arbitrary<Imagined> {
  const { method, path, operation } = route
  const parameters = (operation.parameters ?? []) as Parameter[]
  const named = (place: string) => {
    const ours = parameters.filter((one) => one.in === place)
    const values = ours.map(({ name, schema }) => [name, mostly(5, valid(schema, name), fc.constantFrom(...NASTY))])
    const required = ours.filter((one) => place === 'path' || one.required).map(({ name }) => name)
    return fc.record(Object.fromEntries(values) as Record<string, Arbitrary<unknown>>, {
      requiredKeys: required,
      noNullPrototype: true,
    })
  }
  const { requestBody } = operation
  const content = (requestBody && 'content' in requestBody ? requestBody.content : {}) as Content
  return fc.record<Imagined>({
    operation: fc.constant(`${method.toUpperCase()} ${path}`),
    method: mostly(40, fc.constant(method.toUpperCase()), fc.constantFrom(...METHODS)),
    path: fc.constant(path),
    params: named('path'),
    query: mostly(10, named('query'), fc.dictionary(fc.constantFrom(...QUERY), fc.constantFrom<unknown>(...NASTY))),
    headers: fc.tuple(named('header'), strayHeaders).map(([own, stray]) => sendable({ ...stray, ...own })),
    body: operation.operationId === 'receiveWebhook' ? mostly(5, json(webhook), wild) : bodiesOf(content, valid),
    contentType: mostly(12, fc.constant(Object.keys(content)[0]), fc.constantFrom(...CONTENT_TYPES)),
    credential: fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom(...rightCredentials(path)) },
      { weight: 2, arbitrary: fc.constantFrom(...CREDENTIALS) },
    ),
    address: fc.constantFrom(...ADDRESSES),
  })
}

type Content = Record<string, { schema: Schema }>

const json = (value: Arbitrary<unknown>): Arbitrary<ImaginedBody> => value.map((one) => ({ kind: 'json', value: one }))

const wild: Arbitrary<ImaginedBody | null> = fc.oneof(
  fc.constant(null),
  fc.constantFrom(...BODIES).map((value) => ({ kind: 'text' as const, value })),
  fc.uint8Array({ maxLength: 40 }).map((value) => ({ kind: 'bytes' as const, value })),
)

/** As the schema wants it, with one change, or anything. */
function bodiesOf(content: Content, valid: Valid): Arbitrary<ImaginedBody | null> {
  const [type, media] = Object.entries(content)[0] ?? []
  if (!media) return fc.constant(null)
  const fitting = valid(media.schema)
  const value = fc.oneof(
    { weight: 5, arbitrary: fitting },
    { weight: 3, arbitrary: fc.tuple(fitting, mutation).map(([one, change]) => mutate(one, change)) },
    { weight: 1, arbitrary: fc.jsonValue() },
  )
  const form = value.map((one) => ({ kind: 'form' as const, value: one }))
  return mostly<ImaginedBody, ImaginedBody | null>(7, type === 'application/json' ? json(value) : form, wild)
}

const strayHeaders = fc.dictionary(
  fc.constantFrom(...HEADERS),
  fc.constantFrom('text/event-stream', '*/*', 'null', '10.0.0.1, x', '3', ...NASTY),
  { maxKeys: 2 },
)

/** Headers that an HTTP client agrees to send. */
const sendable = (headers: Record<string, unknown>) =>
  Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      String(value)
        .replace(/[^\t\x20-\x7e\x80-\xff]/g, '')
        .trim(),
    ]),
  )

function rightCredentials(path: string): Credential[] {
  if (path === '/agent/token') return ['basic', 'none']
  if (path === '/livekit/webhook') return ['webhook']
  return path.startsWith('/agent/') ? ['agent'] : ['user', 'member']
}
