import { createMiddleware } from 'hono/factory'
import { builtFiles, pagePolicy } from '../http/built-files.ts'

/** What `npm run build` bundles; the same folder from `src` and from `dist`. */
const BUILT = new URL('../../dist/demo/page/', import.meta.url)

const FILES: Readonly<Record<string, { name: string; type: string }>> = {
  '/demo': { name: 'index.html', type: 'text/html; charset=utf-8' },
  '/demo/page.js': { name: 'page.js', type: 'text/javascript; charset=utf-8' },
  '/demo/page.css': { name: 'page.css', type: 'text/css; charset=utf-8' },
  '/demo/icon.svg': { name: 'icon.svg', type: 'image/svg+xml' },
}

/** The demo page and its files under /demo. */
export function demoPage(livekitUrl: string, folder = BUILT) {
  const headers = {
    'Content-Security-Policy': contentSecurityPolicy(livekitUrl),
    'Permissions-Policy': 'microphone=(self), camera=()',
    'Cache-Control': 'no-cache',
  }
  const serveFile = builtFiles({ folder, files: FILES, headers })
  return createMiddleware(async function demoFile(c, next) {
    return c.req.path === '/demo/' ? c.redirect('../demo') : serveFile(c, next)
  })
}

/** Only the page's own files, this service, and LiveKit: by WebSocket, and by HTTP to find out why that failed. */
export function contentSecurityPolicy(livekitUrl: string): string {
  const { host, hostname, protocol } = new URL(livekitUrl)
  const tls = protocol === 'wss:' || protocol === 'https:' ? 's' : ''
  // LiveKit Cloud redirects clients to a host in their region.
  const hosts = hostname.endsWith('.livekit.cloud') ? [host, '*.livekit.cloud'] : [host]
  const livekit = hosts.flatMap((name) => [`ws${tls}://${name}`, `http${tls}://${name}`])
  return pagePolicy({ images: "'self'", connect: `'self' ${livekit.join(' ')}` })
}
