import { OpenAPIHono } from '@hono/zod-openapi'
import type { Env } from 'hono'
import type { HttpBindings } from '@hono/node-server'
import { AppError, type ErrorCode } from '../errors.ts'

/** What every request knows about itself; guards add `user`, `agent` or `session` in their own types. */
export interface AppEnv extends Env {
  Bindings: Partial<HttpBindings>
  Variables: { requestId: string; problemCode?: ErrorCode }
}

/** A router whose validation failures are thrown, to be rendered once. */
export function createRouter<E extends AppEnv = AppEnv>(): OpenAPIHono<E> {
  return new OpenAPIHono<E>({
    defaultHook: (result) => {
      if (result.success) return
      const errors = result.error.issues.slice(0, 20).map((issue) => ({
        field: issue.path.join('.') || '(body)',
        message: issue.message,
      }))
      const names = [...new Set(errors.map((e) => e.field))].join(', ')
      throw new AppError('validation_failed', `The request is not valid: ${names}.`, { errors })
    },
  })
}
