import type { HttpBindings } from '@hono/node-server'
import { OpenAPIHono, z } from '@hono/zod-openapi'
import type { Env } from 'hono'
import { AppError } from '../errors.ts'
import type { ErrorCode } from './problem-codes.ts'
import { nearestName } from './text.ts'

/** The caller, as the log names it; `account` is a pseudonym for an e-mail. */
export type Who = { user: string } | { agent: string } | { account: string }

/** The context of every request; guards add `user` or `agent` in their own types. */
export interface AppEnv extends Env {
  Bindings: Partial<HttpBindings>
  Variables: { requestId: string; trace?: { traceId: string; spanId: string }; problemCode?: ErrorCode; who?: Who }
}

/** A router that throws validation failures, so that they are rendered in one place. */
export function createRouter<E extends AppEnv = AppEnv>(): OpenAPIHono<E> {
  return new OpenAPIHono<E>({
    defaultHook: (result) => {
      if (!result.success) throw validationFailed(result.error)
    },
  })
}

/** The content of a JSON body or answer, for a route's declaration. */
export const jsonContent = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })

/**
 * An object that refuses members it does not name: a misspelt one would otherwise count as left out. The refusal says
 * which name was probably meant, or for those in `places` where the value belongs. `extend` keeps it strict.
 */
export const strictObject = <S extends z.ZodRawShape>(shape: S, places: Readonly<Record<string, string>> = {}) =>
  z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'unrecognized_keys') return undefined
      const known = Object.keys((issue.inst as z.ZodObject).shape)
      return issue.keys
        .slice(0, MAX_FIELD_ERRORS)
        .map((name) => unknownName(name, known, places))
        .join('\n')
    },
  })

function unknownName(name: string, known: readonly string[], places: Readonly<Record<string, string>>): string {
  if (Object.hasOwn(places, name)) return `This field does not exist. ${places[name]}`
  const nearest = nearestName(name, known)
  return `This field does not exist.${nearest === undefined ? '' : ` Did you mean ${nearest}?`}`
}

/** A schema's complaints, field by field, without the offending values. */
function validationFailed({ issues }: { issues: ReadonlyArray<z.core.$ZodIssue> }): AppError {
  const fieldOf = (path: PropertyKey[]) => path.join('.').slice(0, MAX_FIELD_LENGTH) || '(body)'
  const errors = issues
    .flatMap(({ path, message, ...issue }) =>
      // `strictObject` has one line of its message for each name.
      issue.code === 'unrecognized_keys'
        ? message.split('\n').map((line, i) => ({ field: fieldOf([...path, issue.keys[i] ?? '']), message: line }))
        : { field: fieldOf(path), message },
    )
    .slice(0, MAX_FIELD_ERRORS)
  const names = [...new Set(errors.map(({ field }) => field))].join(', ')
  return new AppError('validation_failed', `The request is not valid: ${names}.`, { errors })
}

const MAX_FIELD_ERRORS = 20
/** Characters: some of the names are the client's. */
const MAX_FIELD_LENGTH = 128
