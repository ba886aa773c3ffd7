import { createRoute } from '@hono/zod-openapi'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import { describe, expect, it } from 'vitest'
import { docRoutes } from '../src/ops/docs-routes.ts'
import { describeApi, operationsOf, PROBLEM_LIST, problemCodes, responsesOf, schemaName } from '../src/ops/openapi.ts'
import { checkerOf } from './documented.ts'
import { makeApp } from './support.ts'

const PUBLIC_URL = 'https://api.behalf.test'
const newApp = () => makeApp({ env: { PUBLIC_URL } })

async function documentOf({ app }: Awaited<ReturnType<typeof newApp>>) {
  const answer = await app.request('/openapi.json')
  expect(answer.status).toBe(200)
  return (await answer.json()) as ReturnType<typeof describeApi>
}

interface Described {
  $ref?: string
  description?: string
  properties?: Record<string, Described>
  items?: Described
  allOf?: Described[]
}

/** The properties of a schema that say nothing of themselves, at any depth; a reference is for its target to describe. */
function undescribed(schema: unknown, named: Record<string, unknown>, path = ''): string[] {
  const { properties = {}, items, allOf = [] } = schema as Described
  const isDescribed = (member: Described) =>
    Boolean((member.$ref ? (named[schemaName(member) ?? ''] as Described) : member).description)
  const members = Object.entries(properties).flatMap(([name, member]) => [
    ...(isDescribed(member) ? [] : [`${path}.${name}`]),
    ...undescribed(member, named, `${path}.${name}`),
  ])
  return [
    ...members,
    ...(items ? undescribed(items, named, `${path}[]`) : []),
    ...allOf.flatMap((part) => undescribed(part, named, path)),
  ]
}

describe('/openapi.json', () => {
  it('passes a standard linter, including examples, without a warning', async () => {
    const document = await documentOf(await makeApp({ env: { PUBLIC_URL, METRICS_TOKEN: 'for-metrics' } }))
    expect(document).toMatchObject({
      openapi: '3.1.1',
      servers: [{ url: PUBLIC_URL }],
      info: { version: '0.0.0-test' },
    })
    const config = await createConfig({
      extends: ['recommended-strict'],
      rules: {
        'no-invalid-schema-examples': 'error',
        'operation-operationId': 'error',
        'operation-tag-defined': 'error',
        'tag-description': 'error',
        // Documents and health have no way to be asked wrongly.
        'operation-4xx-response': 'off',
        // A WebSocket is answered with 101.
        'operation-2xx-response': 'off',
      },
    })
    const found = await lintFromString({ source: JSON.stringify(document), absoluteRef: 'openapi.json', config })
    expect(found.map(({ ruleId, message, location }) => [ruleId, message, location[0]?.pointer])).toEqual([])
  })

  it('has every route of the app and no others', async () => {
    const t = await newApp()
    const served = t.app.routes
      .filter(({ method }) => method !== 'ALL')
      .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`)
    const described = operationsOf(await documentOf(t)).map(({ method, path }) => `${method.toUpperCase()} ${path}`)
    expect(described.sort()).toEqual([...new Set(served)].sort())
  })

  it('states for every operation who may call it, and the 401 for others', async () => {
    const operations = operationsOf(await documentOf(await newApp()))
    const open = operations.filter(({ operation: { security } }) => !security || security.length === 0)
    expect(open.map(({ path }) => path).sort()).toEqual([
      '/.well-known/jwks.json',
      '/.well-known/oauth-authorization-server',
      '/auth/guest',
      '/auth/login',
      '/auth/logout',
      '/auth/refresh',
      '/docs',
      '/health',
      '/health/live',
      '/health/ready',
      '/openapi.json',
    ])
    for (const { path, operation } of operations.filter((one) => !open.includes(one))) {
      expect(Object.keys(operation.responses ?? {}), path).toContain('401')
    }
  })

  it('describes every parameter and every property of requests and answers', async () => {
    const document = await documentOf(await newApp())
    const named: Record<string, unknown> = document.components?.schemas ?? {}
    const bare = operationsOf(document).flatMap(({ method, path, operation }) => {
      const parameters = (operation.parameters ?? []).filter((one) => 'name' in one && !one.description)
      const body = operation.requestBody && 'content' in operation.requestBody ? [operation.requestBody] : []
      return [
        ...parameters.map((one) => ('name' in one ? one.name : '')),
        ...[...body, ...responsesOf(operation)]
          .flatMap(({ content }) => Object.values<{ schema?: unknown }>(content ?? {}))
          .filter(({ schema }) => !problemCodes(schema))
          .flatMap(({ schema }) => undescribed(schema, named)),
      ].map((name) => `${method} ${path}: ${name}`)
    })
    expect(bare).toEqual([])
    // The named ones, the problem among them, are only pointed to above.
    expect(Object.entries(named).flatMap(([name, schema]) => undescribed(schema, named, name))).toEqual([])
  })

  it('shows every operation as a curl command with its credential, its parameters and its example', async () => {
    const operations = operationsOf(await documentOf(await newApp()))
    for (const { path, operation } of operations) {
      expect(operation.description, path).toMatch(/```sh\ncurl [^`]+\n```$/)
    }
    const sampleOf = (id: string) =>
      operations.find(({ operation }) => operation.operationId === id)?.operation.description
    expect(sampleOf('getContext')).toContain(`"${PUBLIC_URL}/agent/context?userId=$USER_ID&sessionId=$SESSION_ID"`)
    expect(sampleOf('getContext')).toContain('-H "Authorization: Bearer $AGENT_TOKEN"')
    expect(sampleOf('issueAgentToken')).toMatch(/-u "\$\w+:\$\w+" \\\n {2}-d grant_type=client_credentials/)
    expect(sampleOf('createRoom')).toMatch(/-H "Content-Type: application\/json" \\\n {2}-d '\{"room":"lesson-12"\}'/)
  })

  it('has a section for routes that a team adds without a tag, and none when there are none', async () => {
    const t = await newApp()
    const tagsOf = (document: ReturnType<typeof describeApi>) => document.tags?.map(({ name }) => name)
    expect(tagsOf(await documentOf(t))).not.toContain('Other')
    const route = createRoute({
      method: 'get',
      path: '/stock',
      responses: { 200: { description: 'How much there is.' } },
    })
    const tagged = createRoute({ ...route, path: '/shop', tags: ['Shop'] })
    const own = await newApp()
    own.app.openapi(route, (c) => c.body(null, 200)).openapi(tagged, (c) => c.body(null, 200))
    const document = await documentOf(own)
    expect(tagsOf(document)?.at(-1)).toBe('Other')
    expect(document.paths?.['/stock']?.get?.tags).toEqual(['Other'])
    expect(document.paths?.['/shop']?.get?.tags).toEqual(['Shop'])
  })

  it('has every problem code with its meaning and what to do', async () => {
    const document = await documentOf(await newApp())
    const inRoutes = operationsOf(document)
      .flatMap(({ operation }) => responsesOf(operation))
      .flatMap(({ content }) => Object.values<{ schema?: unknown }>(content ?? {}))
      .flatMap(({ schema }) => problemCodes(schema) ?? [])
    const elsewhere = PROBLEM_LIST.filter(({ where }) => where === 'anywhere').map(({ code }) => code)
    expect([...new Set([...inRoutes, ...elsewhere])].sort()).toEqual(PROBLEM_LIST.map(({ code }) => code).sort())
    expect(elsewhere.filter((code) => inRoutes.includes(code))).toEqual([])
    expect(document).toHaveProperty('x-problems', PROBLEM_LIST)
  })
})

describe('/docs', () => {
  it('loads only its own files, with nothing inline', async () => {
    const t = await newApp()
    const answer = await t.app.request('/docs')
    const page = await answer.text()
    expect(answer.headers.get('Content-Security-Policy')).toMatch(
      /^default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self';/,
    )
    expect(page).not.toMatch(/<style|style="|\son\w+="|<script(?! type="module" src=)/)
    const loaded = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path)
    expect(loaded).toEqual(['data:,', 'docs/page.css', 'docs/page.js', 'openapi.json'])
    const router = docRoutes(() => ({}) as ReturnType<typeof describeApi>)
    for (const path of ['/docs/page.css', '/docs/page.js']) expect((await router.request(path)).status, path).toBe(200)
    for (const path of ['/docs/page.js.map', '/docs/x']) expect((await router.request(path)).status, path).toBe(404)
  })
})

describe('the check of every answer in these tests', () => {
  const problem = {
    type: 'urn:behalf:problem:session_ended',
    title: 'session ended',
    status: 409,
    code: 'session_ended',
    detail: 'x',
    instance: '/token',
    requestId: 'x',
  }
  const user = { id: 'user_1', guest: false }

  it.each([
    ['a documented answer', 'GET /auth/me', 200, user, []],
    ['an undeclared member', 'GET /auth/me', 200, { ...user, secret: 1 }, [/unevaluated/]],
    ['an undeclared member further in', 'GET /sessions', 200, { sessions: [{ x: 1 }] }, [/required/, /unevaluated/]],
    ['a missing member', 'GET /auth/me', 200, { id: 'user_1' }, [/required/]],
    ['another status', 'GET /auth/me', 418, user, [/status/]],
    ['a code of the route', 'POST /token', 409, problem, []],
    ['a code of another route', 'POST /token', 409, { ...problem, code: 'email_taken' }, [/allowed values/]],
    ['a path of its own', 'GET /nowhere', 200, {}, [/no such operation/]],
  ])('judges %s (A32)', async (_, request, status, body, expected) => {
    const check = checkerOf(describeApi((await newApp()).app, { publicUrl: PUBLIC_URL, version: '1' }))
    const [method = '', path = ''] = request.split(' ')
    const type = 'code' in body ? 'application/problem+json' : 'application/json'
    const headers = { 'Content-Type': type, 'X-Request-Id': 'x' }
    const found = (await check(method, path, new Response(JSON.stringify(body), { status, headers }))).join('\n')
    if (expected.length === 0) expect(found).toBe('')
    for (const pattern of expected) expect(found).toMatch(pattern)
  })

  it('finds every wrong header and content type', async () => {
    const check = checkerOf(describeApi((await newApp()).app, { publicUrl: PUBLIC_URL, version: '1' }))
    const answer = (headers: Record<string, string>) => new Response(JSON.stringify(user), { headers })
    const good = { 'Content-Type': 'application/json', 'X-Request-Id': 'x' }
    expect(await check('GET', '/auth/me', answer(good))).toEqual([])
    expect(await check('GET', '/auth/me', answer({ ...good, 'Retry-After': '1' }))).toHaveLength(1)
    expect(await check('GET', '/auth/me', answer({ ...good, 'Content-Type': 'text/html' }))).toHaveLength(1)
    expect(await check('GET', '/auth/me', answer({ 'Content-Type': 'application/json' }))).toHaveLength(1)
  })
})
