import type { HttpBindings } from '@hono/node-server'
import type { z } from '@hono/zod-openapi'
import { OpenAPIHono } from '@hono/zod-openapi'
import type { Env } from 'hono'
import { AppError } from '../errors.ts'
import type { ErrorCode } from './problem-codes.ts'

/** The caller, as the log names it; `account` is a pseudonym for an e-mail. */
export type Who = { user: string } | { agent: string } | { account: string }

/** The context of every request; guards add `user` or `agent` in their own types. */
export interface AppEnv extends Env {
  Bindings: Partial<HttpBindings>
  Variables: { requestId: string; problemCode?: ErrorCode; who?: Who }
}

/** A router that throws validation failures, so that they are rendered in one place. */
export function createRouter<E extends AppEnv = AppEnv>(): OpenAPIHono<E> {
  return new OpenAPIHono<E>({
    defaultHook: (result) => {
      if (!result.success) throw validationFailed(result.error)
    },
  })
}

/** A schema's complaints, field by field, without the offending values. */
function validationFailed({ issues }: { issues: ReadonlyArray<z.core.$ZodIssue> }): AppError {
  const errors = issues.slice(0, MAX_FIELD_ERRORS).map((issue) => ({
    field: issue.path.join('.') || '(body)',
    message: issue.message,
  }))
  const names = [...new Set(errors.map(({ field }) => field))].join(', ')
  return new AppError('validation_failed', `The request is not valid: ${names}.`, { errors })
}

const MAX_FIELD_ERRORS = 20
