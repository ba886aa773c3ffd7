import { z } from '@hono/zod-openapi'
import { hasNoControlCharacters } from '../http/text.ts'
import { isCommonPassword } from './common-passwords.ts'
import { MAX_PASSWORD_BYTES, MIN_PASSWORD_LENGTH } from './passwords.ts'

/** RFC 5321 §4.5.3.1.3, less the angle brackets. */
const MAX_EMAIL_LENGTH = 254
const MAX_NAME_LENGTH = 128
/** Ours have 43 characters. */
const MAX_REFRESH_TOKEN_LENGTH = 512

// Checked before it is lower-cased: some letters outside ASCII turn into ASCII ones.
const Email = z
  .string()
  .trim()
  .max(MAX_EMAIL_LENGTH)
  .check(z.email())
  .toLowerCase()
  .openapi({ example: 'ada@example.com' })
const Name = z
  .string()
  .trim()
  .min(1)
  .max(MAX_NAME_LENGTH)
  .refine(hasNoControlCharacters, 'must not hold control characters')
  .openapi({ example: 'Ada' })
const Password = z
  .string()
  .min(1)
  .max(MAX_PASSWORD_BYTES)
  .refine(
    (password) => Buffer.byteLength(password) <= MAX_PASSWORD_BYTES,
    `must be at most ${MAX_PASSWORD_BYTES} bytes`,
  )

const NewPassword = Password.min(MIN_PASSWORD_LENGTH).refine(
  (password) => !isCommonPassword(password),
  'is one of the most used passwords: choose another',
)

export const RegisterBody = z.object({ email: Email, password: NewPassword, name: Name.optional() }).openapi('Register')
export const LoginBody = z.object({ email: Email, password: Password }).openapi('Login')
export const GuestBody = z.object({ name: Name.optional() }).openapi('Guest')
export const RefreshTokenBody = z
  .object({ refresh_token: z.string().min(1).max(MAX_REFRESH_TOKEN_LENGTH) })
  .openapi('RefreshToken')

export const UserAnswer = z
  .object({ id: z.string(), email: z.string().optional(), name: z.string().optional() })
  .openapi('User')
export const MeAnswer = UserAnswer.extend({ guest: z.boolean() }).openapi('Me')

/** RFC 6749 §5.1, with the user beside it. */
export const SignedInAnswer = z
  .object({
    user: UserAnswer,
    access_token: z.string(),
    token_type: z.literal('Bearer'),
    /** Seconds. */
    expires_in: z.number().int(),
    refresh_token: z.string(),
  })
  .openapi('SignedIn')
