import type { Config } from '../config.ts'
import { createRouter } from '../http/router.ts'
import { demoPage } from './demo.ts'
import { docRoutes } from './docs-routes.ts'
import { type Health, healthRoutes } from './health.ts'
import { type ApiDocument, describeApi } from './openapi.ts'

interface OpsRoutesDeps {
  health: Health
  version: string
  config: Config
  /** All routes, for their description. */
  router: () => Parameters<typeof describeApi>[0]
}

/** Routes for operators and developers: health, the API's description, the demo page. */
export function opsRoutes({ health, version, config, router }: OpsRoutesDeps) {
  const describe = (): ApiDocument => describeApi(router(), { publicUrl: config.publicUrl, version })
  const own = createRouter()
  // A middleware, as the pages are: not a part of the API that the document describes.
  const start = config.demo ? 'demo' : 'docs'
  const seeStart = `See ${config.publicUrl}/${start}\n` // curl does not follow redirects
  own.use('/', async (c, next) => (c.req.method === 'GET' ? c.text(seeStart, 302, { Location: start }) : next()))
  if (config.demo) own.use('/demo/*', demoPage(config.livekitPublicUrl))
  return own.route('/', healthRoutes({ health, version })).route('/', docRoutes(describe))
}
