// Checked by `tsc --noEmit`, never run: each line below an `@ts-expect-error` has to fail for the reason beside it.
import { TokenSource, type TokenSourceConfigurable } from 'livekit-client'
import { agentClient, type ProblemCode, type ProblemError, type SessionEvent, userClient } from '../src/client.ts'

const client = userClient({ url: 'http://behalf.test' })
const agent = agentClient({ url: 'http://behalf.test', id: 'tutor', secret: 'secret' })
const pair = { userId: 'user_1', sessionId: 'sess_1' }

export async function bodies() {
  await client.register({ email: 'ada@example.com', password: 'correct horse' })
  // @ts-expect-error an account needs a password
  await client.register({ email: 'ada@example.com' })
  // @ts-expect-error a misspelt field
  await client.login({ mail: 'ada@example.com', password: 'correct horse' })
  // @ts-expect-error a name is text
  await client.guest({ name: 1 })
  // @ts-expect-error the id of a session, not its number
  await client.sessions.get(1)
  // @ts-expect-error there is no such field
  await client.joinToken({ roomName: 'lesson' })
  // @ts-expect-error metadata is JSON as text
  await client.joinToken({ participant_metadata: { level: 3 } })
  // @ts-expect-error a page has a number of sessions
  await client.sessions.list({ limit: 'all' })

  await agent.progress(pair, { step: 1 }, { type: 'lesson.step' })
  // @ts-expect-error progress is an object
  await agent.progress(pair, 'step 1')
  // @ts-expect-error a pair names the session too
  await agent.progress({ userId: 'user_1' }, { step: 1 })
  // @ts-expect-error the result of a session is an object
  await agent.session(pair).end({ result: 3 })
}

export async function answers() {
  const { status } = await client.sessions.get('sess_1')
  // @ts-expect-error no session is ever paused
  if (status === 'paused') return undefined
  const { cursor, user } = await agent.context(pair)
  const next: number = cursor
  // @ts-expect-error a guest has no e-mail
  const email: string = user.email
  // @ts-expect-error the tokens stay inside the client
  const { access_token } = await client.guest()
  return { next, email, access_token }
}

/** What a page says; one sentence for each way that a sign-in may be refused. */
type SignInCode = Extract<ProblemCode, 'invalid_credentials' | 'validation_failed' | 'busy' | 'unreachable'>

export function complete(code: SignInCode): string {
  switch (code) {
    case 'invalid_credentials':
      return 'E-mail or password are wrong.'
    case 'validation_failed':
      return 'That is no e-mail address.'
    case 'busy':
    case 'unreachable':
      return 'Try again in a moment.'
    default:
      return code satisfies never
  }
}

export function incomplete(code: SignInCode): string {
  switch (code) {
    case 'invalid_credentials':
      return 'E-mail or password are wrong.'
    case 'busy':
    case 'unreachable':
      return 'Try again in a moment.'
    default:
      // @ts-expect-error validation_failed is missing
      return code satisfies never
  }
}

export function codes({ code }: ProblemError): boolean {
  // @ts-expect-error no such code: a misspelt case would never be reached
  return code === 'session_over'
}

export const everyCode = { session_ended: 'It is over.' }
// @ts-expect-error a table of messages has to have all of them
everyCode satisfies Record<ProblemCode, string>

export const forLiveKit: TokenSourceConfigurable = client.tokenSource(TokenSource)

export function onEvent({ type, data }: SessionEvent) {
  // @ts-expect-error an agent may send anything: look before you use it
  return type === 'progress' ? data.step : undefined
}
