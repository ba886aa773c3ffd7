import { createRoute, z } from '@hono/zod-openapi'
import { builtFiles, pagePolicy } from '../http/built-files.ts'
import { problems } from '../http/problem.ts'
import { createRouter, jsonContent } from '../http/router.ts'
import type { ApiDocument } from './openapi.ts'

const CACHE_CONTROL = 'public, max-age=300'

/** The viewer loads its own two files and may call only this service. */
const PAGE_HEADERS = {
  'Cache-Control': CACHE_CONTROL,
  // Icons within its style sheet.
  'Content-Security-Policy': pagePolicy({ images: 'data:', connect: "'self'" }),
}

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Behalf API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/page.css">
<script type="module" src="docs/page.js"></script>
</head>
<body>
<div id="api"><noscript>The same as data: <a href="openapi.json">openapi.json</a></noscript></div>
</body>
</html>`

/** What `npm run build` bundles; the same folder from `src` and from `dist`. */
const BUILT = new URL('../../dist/ops/docs-page/', import.meta.url)

const FILES = {
  '/docs/page.js': { name: 'page.js', type: 'text/javascript; charset=utf-8' },
  '/docs/page.css': { name: 'page.css', type: 'text/css; charset=utf-8' },
}

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
      content: jsonContent(OpenApi),
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
    200: { description: 'A page that loads nothing from elsewhere', content: { 'text/html': { schema: z.string() } } },
    ...problems(),
  },
})

/** The OpenAPI document and a page that shows it. `describe` is called once, at the first request. */
export function docRoutes(describe: () => ApiDocument) {
  let json: string | undefined
  const router = createRouter()
  router.use('/docs/*', builtFiles({ folder: BUILT, files: FILES, headers: PAGE_HEADERS }))
  return router
    .openapi(documentRoute, (c) => {
      json ??= JSON.stringify(OpenApi.parse(describe()))
      // As text, serialized once, since it is long and never changes; the header sets the JSON type.
      return c.body(json, 200, { 'Cache-Control': CACHE_CONTROL, 'Content-Type': 'application/json' }) as never
    })
    .openapi(pageRoute, (c) => c.html(PAGE, 200, PAGE_HEADERS))
}
