import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { afterEach, expect } from 'vitest'
import { ServiceResponse } from '../src/http/server.ts'
import { type ApiDocument, describeApi, operationsOf } from '../src/ops/openapi.ts'

type App = Parameters<typeof describeApi>[0] & {
  routes: ReadonlyArray<{ method: string; path: string }>
  fetch: (request: Request, ...rest: never[]) => Response | Promise<Response>
}

const violations: string[] = []
afterEach(() => {
  expect(takeViolations(), 'answers that /openapi.json does not describe').toEqual([])
})

/** Returns and clears the undocumented answers found since the last call. */
export const takeViolations = () => violations.splice(0)

/** Holds every answer of the app to its own document: status, headers, content type, body. The app itself is changed. */
export function documented<A extends App>(app: A): A {
  const inner = app.fetch
  app.fetch = async (request, ...rest: never[]) => {
    // Read before, because the app may read or replace it.
    const { method, url } = request
    const response = await inner(request, ...rest)
    // The adapter answers it with 101: what OpenAPI has no words for.
    if (request.headers.get('Upgrade') === 'websocket' && response.ok) return response
    const check = sharedChecker(app)
    const path = new URL(url).pathname
    const wrong = await check(method, path, asSent(response, rest[0]))
    violations.push(...wrong.map((what) => `${method} ${path} → ${response.status}: ${what}`))
    return response
  }
  return app
}

/** With the headers that the service's own server adds, behind which an app leaves them out. */
function asSent(response: Response, env: { outgoing?: unknown } | undefined): Response {
  const outgoing = env?.outgoing
  if (!(outgoing instanceof ServiceResponse)) return response
  const sent = new Response(response.clone().body, response)
  for (const [name, value] of outgoing.commonHeaders) if (!sent.headers.has(name)) sent.headers.set(name, value)
  return sent
}

const checkers = new Map<string, ReturnType<typeof checkerOf>>()

/** One checker for all apps with the same routes: most tests make an app of their own. */
function sharedChecker(app: App) {
  const key = app.routes.map(({ method, path }) => `${method} ${path}`).join()
  const known = checkers.get(key)
  if (known) return known
  const made = checkerOf(describeApi(app, { publicUrl: 'https://api.behalf.test', version: '0.0.0-test' }))
  checkers.set(key, made)
  return made
}

/** Says what is wrong with an answer; nothing, if the document describes it. */
export function checkerOf(document: ApiDocument) {
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  addFormats.default(ajv)
  ajv.addSchema({
    $id: 'api',
    components: { schemas: mapValues(document.components?.schemas ?? {}, (schema) => closed(schema, true)) },
  })
  const compiled = new Map<object, ValidateFunction>()
  const routes = operationsOf(document).map((route) => ({ ...route, pattern: patternOf(route.path) }))

  function errorsOf(schema: object, value: unknown): string[] {
    const known = compiled.get(schema) ?? ajv.compile(closed(pointTo('api', schema)) as Schema)
    compiled.set(schema, known)
    return known(value) ? [] : (known.errors ?? []).map((e) => `${e.instancePath || '(body)'} ${ajv.errorsText([e])}`)
  }

  return async function check(method: string, path: string, response: Response): Promise<string[]> {
    if (method === 'OPTIONS') return []
    if (!response.headers.has('X-Request-Id')) return ['no X-Request-Id']
    // RFC 9110 §15.5.2.
    if (response.status === 401 && !response.headers.has('WWW-Authenticate')) return ['a 401 without a challenge']
    // Routes with fixed paths win, as they do in the app.
    const matching = routes.filter(({ pattern }) => pattern.test(path))
    const verb = method === 'HEAD' ? 'get' : method.toLowerCase()
    const route = matching.find((candidate) => candidate.method === verb)
    const declared = route?.operation.responses?.[response.status]
    if (!route) return checkUnrouted(response)
    if (!declared || '$ref' in declared) return ['the status is not documented']
    const surprising = ['Retry-After', 'WWW-Authenticate', 'RateLimit', 'RateLimit-Policy'].filter(
      (name) => response.headers.has(name) && !(name in (declared.headers ?? {})),
    )
    return [
      ...surprising.map((name) => `the header ${name} is not documented`),
      ...(method === 'HEAD' ? [] : await checkBody(response, declared.content ?? {})),
    ]
  }

  /** Off the documented routes only problems are answered. */
  async function checkUnrouted(response: Response): Promise<string[]> {
    const problem = { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } }
    if (response.status < 400) return ['there is no such operation in the document']
    return response.body === null ? [] : checkBody(response, problem)
  }

  async function checkBody(response: Response, content: Record<string, { schema?: object }>): Promise<string[]> {
    const type = response.headers.get('Content-Type')?.split(';')[0] ?? ''
    const declared = Object.keys(content)
    if (type === '') return declared.length === 0 ? [] : [`no content type; documented: ${declared}`]
    const schema = content[type]?.schema
    if (!schema) return [`the content type ${type} is not documented`]
    // A stream may never end.
    if (type === 'text/event-stream') return []
    const text = await response.clone().text()
    return errorsOf(schema, type.endsWith('json') ? JSON.parse(text) : text)
  }
}

const patternOf = (path: string) =>
  new RegExp(`^${path.replace(/[.*+?^$()|[\]\\]/g, '\\$&').replace(/\{\w+\}/g, '[^/]+')}$`)

/** References of a schema that stands alone, towards the document. */
function pointTo(id: string, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => pointTo(id, item))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) =>
      key === '$ref' && typeof inner === 'string' ? [key, `${id}${inner}`] : [key, pointTo(id, inner)],
    ),
  )
}

type Schema = Record<string, unknown>
const isObject = (value: unknown): value is Schema => typeof value === 'object' && value !== null

/** Keywords whose value is data or names, not schemas. */
const NOT_SCHEMAS = ['enum', 'const', 'example', 'examples', 'default', 'required', 'type']

/**
 * The schema with no undeclared member taken at any depth. `unevaluatedProperties` sees through `$ref` and `allOf`, so
 * their parts stay open and the combining schema closes them; a schema that says `additionalProperties` decides itself.
 */
function closed(schema: unknown, isPart = false): unknown {
  if (!isObject(schema)) return schema
  const inner = Object.fromEntries(
    Object.entries(schema).map(([keyword, value]) => [keyword, closeKeyword(keyword, value)]),
  )
  const hasMembers = 'properties' in schema || 'allOf' in schema || '$ref' in schema
  return isPart || !hasMembers || 'additionalProperties' in schema ? inner : { ...inner, unevaluatedProperties: false }
}

function closeKeyword(keyword: string, value: unknown): unknown {
  if (NOT_SCHEMAS.includes(keyword)) return value
  if (Array.isArray(value)) return value.map((part) => closed(part, keyword === 'allOf'))
  if (keyword === 'properties' && isObject(value)) return mapValues(value, (member) => closed(member))
  return closed(value)
}

const mapValues = (object: object, change: (value: unknown) => unknown) =>
  Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]))
