import { createRoute, z } from '@hono/zod-openapi'
import { problems } from '../http/problem.ts'
import { createRouter } from '../http/router.ts'
import type { ApiDocument } from './openapi.ts'
import { renderDocs } from './page.ts'

const CACHE_CONTROL = 'public, max-age=300'

const OpenApi = z.looseObject({ openapi: z.string().describe('Version of the OpenAPI Specification.') })

const documentRoute = createRoute({
  method: 'get',
  path: '/openapi.json',
  operationId: 'getOpenApi',
  tags: ['Documentation'],
  security: [],
  summary: 'This API as an OpenAPI 3.1 document',
  responses: {
    200: {
      description: 'The document',
      content: { 'application/json': { schema: OpenApi } },
    },
    ...problems(),
  },
})

const pageRoute = createRoute({
  method: 'get',
  path: '/docs',
  operationId: 'getDocs',
  tags: ['Documentation'],
  security: [],
  summary: 'The same document, to read',
  responses: {
    200: { description: 'A page that loads nothing else', content: { 'text/html': { schema: z.string() } } },
    ...problems(),
  },
})

/** The document of all routes and a page that shows it. `describe` is called once, when somebody asks first. */
export function docRoutes(describe: () => ApiDocument) {
  let described: { json: string; page: ReturnType<typeof renderDocs> } | undefined
  function once() {
    if (!described) {
      const document = describe()
      described = { json: JSON.stringify(OpenApi.parse(document)), page: renderDocs(document) }
    }
    return described
  }

  return createRouter()
    .openapi(documentRoute, (c) => {
      const headers = { 'Cache-Control': CACHE_CONTROL, 'Content-Type': 'application/json' }
      // As text, since it is long and always the same; its type says JSON.
      return c.body(once().json, 200, headers) as never
    })
    .openapi(pageRoute, (c) => {
      const { html, contentSecurityPolicy } = once().page
      return c.html(html, 200, {
        'Cache-Control': CACHE_CONTROL,
        'Content-Security-Policy': contentSecurityPolicy,
        'X-Content-Type-Options': 'nosniff',
        'Referrer-Policy': 'no-referrer',
      })
    })
}
