// Checked by `tsc --noEmit`, never run: each line below an `@ts-expect-error` has to fail for the reason beside it.
import type { z } from '@hono/zod-openapi'
import type { hc, InferRequestType, InferResponseType, PickResponseByStatusCode } from 'hono/client'
import { TokenSource, type TokenSourceConfigurable, type TokenSourceFetchOptions } from 'livekit-client'
import { agentClient, type ProblemCode, type ProblemError, type SessionEvent, userClient } from '#client'
import type { TokenSourceOptions } from '../packages/client/src/token-source.ts'
import type * as wire from '../packages/client/src/wire.ts'
import type { TokenErrorCode } from '../src/agent/client-credentials.ts'
import type { Service } from '../src/app.ts'
import type { Problem } from '../src/http/problem.ts'
import type { TokenRequest } from '../src/join/schemas.ts'
import type { CloseReason } from '../src/sessions/event-stream.ts'
import type { EventResponse } from '../src/sessions/json.ts'

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

/** The routes as the server declares them. */
type Api = ReturnType<typeof hc<PickResponseByStatusCode<Service['app'], 200 | 201 | 204>>>
type Answer<Route> = InferResponseType<Route>
type Json<Route> = InferRequestType<Route> extends { json: infer Body } ? Body : never
type Query<Route> = InferRequestType<Route> extends { query: infer Params } ? Params : never

/** The same fields, each of the same type and as optional, however the type is put together. */
type Same<A, B> = Flat<A> extends infer X ? (Flat<B> extends infer Y ? Identical<X, Y> : never) : never
type Flat<T> = T extends object ? { [Key in keyof T]: Flat<T[Key]> } : T
type Identical<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

type CamelCase =
  | 'roomName'
  | 'participantIdentity'
  | 'participantName'
  | 'participantMetadata'
  | 'participantAttributes'
  | 'roomConfig'
  | 'autoCreateRoom'
  | 'sessionId'

type Auth = Api['auth']
type Sessions = Api['sessions']
type Agent = Api['agent']
type Context = Answer<Agent['context']['$get']>

// What the client's package says of the wire is what the server's routes say.
true satisfies Same<wire.Registration, Json<Auth['register']['$post']>>
true satisfies Same<wire.Credentials, Json<Auth['login']['$post']>>
true satisfies Same<wire.GuestDetails, Json<Auth['guest']['$post']>>
true satisfies Same<wire.PasswordChange, Json<Auth['password']['$post']>>
true satisfies Same<wire.SignedIn, Answer<Auth['password']['$post']>>
true satisfies Same<wire.SignedIn, Answer<Auth['register']['$post']>>
true satisfies Same<wire.SignedIn, Answer<Auth['login']['$post']>>
true satisfies Same<wire.SignedIn, Answer<Auth['guest']['$post']>>
true satisfies Same<wire.SignedIn, Answer<Auth['refresh']['$post']>>
true satisfies Same<{ refresh_token: string }, Json<Auth['refresh']['$post']>>
true satisfies Same<{ refresh_token: string }, Json<Auth['logout']['$post']>>
true satisfies Same<wire.Me, Answer<Auth['me']['$get']>>
// What the schema gives, not what it takes: it takes anything and says later what is wrong.
// Of the spellings that the service takes, the client has the one that LiveKit's SDKs send.
true satisfies Same<wire.JoinRequest, Omit<z.infer<typeof TokenRequest>, CamelCase>>
true satisfies Same<wire.JoinToken, Answer<Api['token']['$post']>>
true satisfies Same<wire.Session, Answer<Sessions[':id']['$get']>>
true satisfies Same<wire.Session, Answer<Sessions[':id']['$delete']>>
true satisfies Same<wire.SessionPage, Answer<Sessions['$get']>>
// The service reads the limit from text, so that its own type takes anything.
true satisfies Identical<keyof wire.SessionQuery, keyof Query<Sessions['$get']>>
true satisfies Same<wire.SessionEvent, z.infer<typeof EventResponse>>
true satisfies Same<wire.CloseReason, CloseReason>
true satisfies Same<wire.AgentToken, Answer<Agent['token']['$post']>>
true satisfies Same<wire.Pair, Query<Agent['context']['$get']>>
// An event's `data` is anything to us, and anything that JSON can be to Hono.
true satisfies Same<Omit<wire.Context, 'events'>, Omit<Context, 'events'>>
true satisfies Same<Omit<wire.SessionEvent, 'data'>, Omit<Context['events'][number], 'data'>>
true satisfies Same<wire.Progress, Json<Agent['progress']['$post']>>
true satisfies Same<wire.StoredProgress, Answer<Agent['progress']['$post']>>
true satisfies Same<wire.SessionEnd, Json<Agent['session']['end']['$post']>>
true satisfies Same<wire.Session, Answer<Agent['session']['end']['$post']>>
true satisfies Same<wire.ErrorCode, z.infer<typeof Problem>['code']>
true satisfies Same<wire.FieldError, NonNullable<z.infer<typeof Problem>['errors']>[number]>
true satisfies Same<wire.TokenErrorCode, TokenErrorCode>
true satisfies Same<TokenSourceOptions, TokenSourceFetchOptions>
// @ts-expect-error this comparison sees a field that one side lacks, though it is optional
true satisfies Same<{ id: string }, { id: string; name?: string | undefined }>
