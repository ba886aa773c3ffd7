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
  document.components = { ...document.components, securitySchemes: { ...SECURITY_SCHEMES }, headers: { ...HEADERS } }
  for (const { operation } of operationsOf(document)) {
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
