import { z } from '@hono/zod-openapi'
import { strictObject } from '../http/router.ts'
import { isDisplayName } from '../http/text.ts'
import type { User } from '../store/users.ts'
import { isCommonPassword, MAX_PASSWORD_BYTES, MIN_PASSWORD_LENGTH } from './passwords.ts'

/** RFC 5321 §4.5.3.1.3, minus the angle brackets. */
const MAX_EMAIL_LENGTH = 254
const MAX_NAME_LENGTH = 128
/** The service's refresh tokens have 43 characters. */
const MAX_REFRESH_TOKEN_LENGTH = 512

// Checked before lower-casing: some letters outside ASCII turn into ASCII ones.
const Email = z
  .string()
  .trim()
  .max(MAX_EMAIL_LENGTH)
  .check(z.email())
  .toLowerCase()
  .openapi({
    description: `Up to ${MAX_EMAIL_LENGTH} characters, kept in lower case. Not verified.`,
    example: 'ada@example.com',
  })
const Name = z
  .string()
  .trim()
  .min(1)
  .max(MAX_NAME_LENGTH)
  .refine(isDisplayName, 'must be visible: no control, zero-width or bidirectional characters')
  .openapi({
    description: `1 to ${MAX_NAME_LENGTH} characters: the name shown in rooms, unless a join token is requested with another.`,
    example: 'Ada',
  })
const Password = z
  .string()
  .min(1)
  .max(MAX_PASSWORD_BYTES)
  .refine(
    (password) => Buffer.byteLength(password) <= MAX_PASSWORD_BYTES,
    `must be at most ${MAX_PASSWORD_BYTES} bytes`,
  )
  .describe(`Up to ${MAX_PASSWORD_BYTES} bytes of UTF-8, as registered.`)

const NewPassword = Password.min(MIN_PASSWORD_LENGTH)
  .refine((password) => !isCommonPassword(password), 'is one of the most used passwords: choose another')
  .describe(
    `${MIN_PASSWORD_LENGTH} characters to ${MAX_PASSWORD_BYTES} bytes of UTF-8, and none of the 3,000 most used passwords.`,
  )

export const RegisterRequest = strictObject({ email: Email, password: NewPassword, name: Name.optional() }).openapi(
  'Register',
)
export const LoginRequest = strictObject({ email: Email, password: Password }).openapi('Login')
export const GuestRequest = strictObject({ name: Name.optional() }).openapi('Guest')
export const RefreshRequest = strictObject({
  refresh_token: z
    .string()
    .min(1)
    .max(MAX_REFRESH_TOKEN_LENGTH)
    .describe(
      'The newest of the sign-in. Reusing an older one ends the sign-in, except for a retry within 10 seconds.',
    ),
}).openapi('RefreshToken')

export const ChangePasswordRequest = strictObject({ current_password: Password, new_password: NewPassword }).openapi(
  'ChangePassword',
)

const UserResponse = z
  .object({
    id: z.string().describe('`user_…`, which is the LiveKit identity as well.'),
    email: z.string().optional().describe('In lower case, not verified. Absent for a guest.'),
    name: z.string().optional().describe('Absent when none was given.'),
  })
  .openapi('User', { description: 'A user.' })
export const MeResponse = UserResponse.extend({
  guest: z.boolean().describe('Signed in without e-mail and password.'),
}).openapi('Me', { description: 'A user, and whether it is a guest.' })

export const userResponse = ({ id, email, name }: User) => ({
  id,
  ...(email === null ? {} : { email }),
  ...(name === null ? {} : { name }),
})
export const meResponse = (user: User) => ({ ...userResponse(user), guest: user.email === null })

/** RFC 6749 §5.1, with the user beside it. */
export const SignedInResponse = z
  .object({
    user: UserResponse,
    access_token: z.string().describe('A JWT (RFC 9068) to send as `Authorization: Bearer`.'),
    token_type: z.literal('Bearer').describe('Always `Bearer`.'),
    expires_in: z.number().int().describe('Seconds that the access token lives.'),
    refresh_token: z
      .string()
      .describe('For one `POST /auth/refresh`. Expires after 30 days unused, and 90 days after the sign-in.'),
  })
  .openapi('SignedIn')
