import { readFile } from 'node:fs/promises'
import type { MiddlewareHandler } from 'hono'
import { AppError } from '../errors.ts'

interface BuiltFiles {
  /** What `npm run build` bundles there. */
  folder: URL
  /** By path; nothing else in the folder is served. */
  files: Readonly<Record<string, { name: string; type: string }>>
  headers: Readonly<Record<string, string>>
}

/** Only the page's own files, and besides these what the page needs. */
export const pagePolicy = ({ images, connect }: { images: string; connect: string }): string =>
  [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    `img-src ${images}`,
    `connect-src ${connect}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')

/** Serves a page's files. They are not part of the API, so the OpenAPI document omits them. */
export function builtFiles({ folder, files, headers }: BuiltFiles): MiddlewareHandler {
  return async function builtFile(c, next) {
    const file = files[c.req.path]
    if (!file || (c.req.method !== 'GET' && c.req.method !== 'HEAD')) return next()
    return c.body(await read(new URL(file.name, folder)), 200, { ...headers, 'Content-Type': file.type })
  }
}

async function read(file: URL): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await readFile(file))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new AppError('not_found', 'This page has not been built: run `npm run build`.')
  }
}
