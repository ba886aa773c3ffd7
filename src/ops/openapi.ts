import type { OpenAPIHono } from '@hono/zod-openapi'
import { ERROR_CODES, type ErrorCode, problemKind } from '../http/problem-codes.ts'
import type { AppEnv } from '../http/router.ts'
import { EXAMPLES } from './openapi-examples.ts'

type GetDocument = OpenAPIHono<AppEnv>['getOpenAPI31Document']
/** An OpenAPI 3.1 document. */
export type ApiDocument = ReturnType<GetDocument>
type PathItem = NonNullable<ApiDocument['paths']>[string]
export type Operation = NonNullable<PathItem['get']>
type Responses = NonNullable<Operation['responses']>

/** The methods that routes may have. */
export const METHODS = ['get', 'post', 'delete', 'put', 'patch'] as const

const DESCRIPTION = `Lets a LiveKit agent call your API on behalf of the user: sign-in, LiveKit join tokens that carry \`userId\` and \`sessionId\`,
and callbacks that are accepted only while LiveKit confirms that this user is in this session's room.

Refusals are \`application/problem+json\` (RFC 9457) with a stable \`code\`, except at \`POST /agent/token\`, which speaks RFC 6749.
Every answer has an \`X-Request-Id\`, which finds it in the log.`

const TAGS = [
  { name: 'Accounts', description: 'The user signs in.' },
  { name: 'Join tokens', description: 'The frontend gets into a LiveKit room.' },
  { name: 'Sessions', description: 'The user’s own sessions, and what happened in them.' },
  { name: 'Agents', description: 'What an agent may do on behalf of the user who is in the room.' },
  { name: 'LiveKit', description: 'LiveKit reports what happens in rooms.' },
  { name: 'Trust', description: 'What other services need to verify access tokens.' },
  { name: 'Operation', description: 'For operators and orchestrators.' },
  { name: 'Documentation', description: 'This document.' },
]
/** For routes without a tag, which the viewer would show last, under "default". */
const OTHER_TAG = { name: 'Other', description: 'What this deployment adds.' }

const SECURITY_SCHEMES = {
  userToken: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'A user’s access token, from `/auth/*`. It lives 15 minutes: `POST /auth/refresh` gives the next one.',
  },
  agentToken: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'An agent’s access token, from `POST /agent/token`; each route asks for one scope.',
  },
  agentSecret: {
    type: 'http',
    scheme: 'basic',
    description: 'An agent’s id and secret, from `npm run agent -- create <name>`.',
  },
  workerToken: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'What LiveKit’s SDKs sign with the agent’s secret for each connection; good for a minute.',
  },
  metricsToken: {
    type: 'http',
    scheme: 'bearer',
    description: 'The METRICS_TOKEN of the settings.',
  },
  livekitWebhook: {
    type: 'apiKey',
    in: 'header',
    name: 'Authorization',
    description: 'The bare token that LiveKit signs over the body’s hash.',
  },
} as const

const HEADERS = {
  'X-Request-Id': { description: 'The id of the request’s log lines.', schema: { type: 'string' } },
  'Retry-After': {
    description: 'Seconds to wait before retrying.',
    schema: { type: 'integer', minimum: 0 },
  },
  'RateLimit-Policy': {
    description: 'The limits: how many requests (q) in how many seconds (w); absent where there is none.',
    schema: { type: 'string', example: '"sign-ins";q=60;w=60' },
  },
  RateLimit: {
    description: 'What is left of each (r), and the seconds until it is renewed (t).',
    schema: { type: 'string', example: '"sign-ins";r=59;t=42' },
  },
  'WWW-Authenticate': { description: 'How to authenticate (RFC 6750 §3, RFC 7617).', schema: { type: 'string' } },
} as const

/** `x-problems` of the document: every code. */
export const PROBLEM_LIST = ERROR_CODES.map((code) => {
  const { status, means, todo, where } = problemKind(code)
  return { code, status, means, todo, ...(where ? { where } : {}) }
})

/** The whole API as an OpenAPI 3.1 document: the declared routes, and what they have in common. */
export function describeApi(
  app: { getOpenAPI31Document: GetDocument },
  { publicUrl, version }: { publicUrl: string; version: string },
): ApiDocument {
  // A copy: otherwise it would share objects with the routes.
  const document = structuredClone(
    app.getOpenAPI31Document({
      openapi: '3.1.1',
      info: {
        title: 'Behalf',
        version,
        description: DESCRIPTION,
        license: { name: 'MIT', url: 'https://spdx.org/licenses/MIT.html' },
      },
      servers: [{ url: publicUrl }],
      tags: TAGS,
      'x-problems': PROBLEM_LIST,
    }),
  )
  const operations = operationsOf(document)
  const used = new Set(operations.flatMap(({ operation }) => (operation.security ?? []).flatMap(Object.keys)))
  const securitySchemes = Object.fromEntries(Object.entries(SECURITY_SCHEMES).filter(([name]) => used.has(name)))
  document.components = { ...document.components, securitySchemes, headers: { ...HEADERS } }
  const isTagged = ({ operation: { tags = [] } }: (typeof operations)[number]) => tags.length > 0
  if (!operations.every(isTagged)) document.tags = [...TAGS, OTHER_TAG]
  for (const described of operations) {
    const { operation } = described
    if (!isTagged(described)) operation.tags = [OTHER_TAG.name]
    operation.description = [operation.description, curlSample(described, publicUrl)].filter(Boolean).join('\n\n')
    if (operation.requestBody && 'content' in operation.requestBody) addExamples(operation.requestBody.content)
    const limited = isRateLimited(operation) ? RATE_LIMIT_REFERENCES : {}
    for (const response of responsesOf(operation)) {
      response.headers = {
        'X-Request-Id': { $ref: '#/components/headers/X-Request-Id' },
        ...limited,
        ...response.headers,
      }
      addExamples(response.content ?? {})
    }
  }
  return document
}

/** Every operation of a document with its method (lower case) and path. */
export function operationsOf(document: ApiDocument) {
  return Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = item[method]
      return operation ? [{ method, path, operation }] : []
    }),
  )
}

/** How each kind of credential is sent; the words in capitals are the reader's own. */
const CREDENTIALS: Readonly<Record<string, string>> = {
  userToken: '-H "Authorization: Bearer $ACCESS_TOKEN"',
  agentToken: '-H "Authorization: Bearer $AGENT_TOKEN"',
  agentSecret: '-u "$BEHALF_AGENT_ID:$BEHALF_AGENT_SECRET"',
  metricsToken: '-H "Authorization: Bearer $METRICS_TOKEN"',
  livekitWebhook: '-H "Authorization: $LIVEKIT_SIGNATURE"',
}

/** The operation as a shell command, in Markdown. */
function curlSample({ method, path, operation }: ReturnType<typeof operationsOf>[number], publicUrl: string): string {
  const [scheme] = Object.keys(operation.security?.[0] ?? {})
  const query = (operation.parameters ?? []).flatMap((one) =>
    'name' in one && one.in === 'query' && one.required ? [`${one.name}=$${shellName(one.name)}`] : [],
  )
  const url = publicUrl + path.replace(/\{(\w+)\}/g, (_, name: string) => `$${shellName(name)}`)
  const lines = [
    `curl ${method === 'get' ? '' : `-X ${method.toUpperCase()} `}"${[url, ...(query.length > 0 ? [query.join('&')] : [])].join('?')}"`,
    ...(scheme && CREDENTIALS[scheme] ? [CREDENTIALS[scheme]] : []),
    ...bodyArguments(operation),
  ]
  return `\`\`\`sh\n${lines.join(' \\\n  ')}\n\`\`\``
}

function bodyArguments({ requestBody }: Operation): string[] {
  if (!requestBody || '$ref' in requestBody) return []
  const [[type, { schema }] = ['', {}]] = Object.entries<{ schema?: unknown }>(requestBody.content)
  if (type === 'application/x-www-form-urlencoded') return ['-d grant_type=client_credentials']
  const example = EXAMPLES[schemaName(schema) ?? ''] ?? {}
  return [`-H "Content-Type: ${type}"`, `-d '${JSON.stringify(example)}'`]
}

const shellName = (name: string) => name.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase()

/** An operation's responses, which are never references here. */
export function responsesOf(operation: Operation) {
  const responses: Responses = operation.responses ?? {}
  return Object.values(responses).filter((response) => !('$ref' in response))
}

const RATE_LIMIT_REFERENCES = {
  'RateLimit-Policy': { $ref: '#/components/headers/RateLimit-Policy' },
  RateLimit: { $ref: '#/components/headers/RateLimit' },
}

const isRateLimited = (operation: Operation) =>
  responsesOf(operation).some(({ content = {} }) =>
    Object.values<{ schema?: unknown }>(content).some(({ schema }) => problemCodes(schema)?.includes('rate_limited')),
  )

function addExamples(content: Record<string, { schema?: unknown; example?: unknown; examples?: unknown }>): void {
  for (const media of Object.values(content)) {
    const name = schemaName(media.schema)
    if (name && EXAMPLES[name]) media.example = EXAMPLES[name]
    const codes = problemCodes(media.schema)
    if (codes) media.examples = Object.fromEntries(codes.map((code) => [code, { value: problemExample(code) }]))
  }
}

const REFERENCE = '#/components/schemas/'

/** The name of a schema that is a reference. */
export function schemaName(schema: unknown): string | undefined {
  const reference = (schema as { $ref?: string } | undefined)?.$ref
  return reference?.startsWith(REFERENCE) ? reference.slice(REFERENCE.length) : undefined
}

/** The codes of a problem response, as `problems()` declares them. */
export function problemCodes(schema: unknown): ErrorCode[] | undefined {
  const { allOf } = (schema ?? {}) as { allOf?: Array<{ properties?: { code?: { enum?: ErrorCode[] } } }> }
  return schemaName(allOf?.[0]) === 'Problem' ? allOf?.[1]?.properties?.code?.enum : undefined
}

const problemExample = (code: ErrorCode) => ({
  type: `urn:behalf:problem:${code}`,
  title: code.replaceAll('_', ' '),
  status: problemKind(code).status,
  code,
  detail: problemKind(code).means,
  instance: '/the/path',
  requestId: '0b8f5c1e-7a34-4e0e-9f5f-2f1d3f8f9a10',
})
