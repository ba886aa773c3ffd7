import { requestId } from 'hono/request-id'
import { pino } from 'pino'
import { z } from 'zod'
import { agentGuard } from '../src/auth/guards.ts'
import type { Scope } from '../src/auth/scopes.ts'
import { createAccessTokens } from '../src/auth/tokens.ts'
import { renderProblem } from '../src/http/problem.ts'
import { createRouter } from '../src/http/router.ts'
import type { TestApp } from './support.ts'

const FORM = 'application/x-www-form-urlencoded'
export const GRANT = { grant_type: 'client_credentials' }

/** POSTs a form to the token endpoint. A string is sent as it is, so that a test can repeat a parameter. */
export const requestToken = (
  app: TestApp['app'],
  form: Record<string, string> | string,
  headers: Record<string, string> = {},
) =>
  app.request('/agent/token', {
    method: 'POST',
    headers: { 'Content-Type': FORM, ...headers },
    body: typeof form === 'string' ? form : new URLSearchParams(form).toString(),
  })

/** RFC 6749 §2.3.1: both parts form-urlencoded, then base64. */
export const basic = (id: string, secret: string) => ({
  Authorization: `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`,
})

const Fields = z.record(z.string(), z.unknown())
const TokenAnswer = z.strictObject({
  access_token: z.string(),
  token_type: z.literal('Bearer'),
  expires_in: z.number(),
  scope: z.string(),
})

/** The members of a JSON answer. */
export const fieldsOf = async (answer: Response) => Fields.parse(await answer.json())

/** A successful answer of the token endpoint; throws for any other, also for one that holds more. */
export const tokenAnswer = async (answer: Response) => TokenAnswer.parse(await answer.json())

/** An access token for the agent; throws when there is none. */
export async function agentToken(app: TestApp['app'], { id, secret }: { id: string; secret: string }): Promise<string> {
  return (await tokenAnswer(await requestToken(app, GRANT, basic(id, secret)))).access_token
}

/** Says what a route behind the guard of that scope answers to a token: status and problem code. */
export function guardedRoute({ config, keys, store }: TestApp, scope: Scope) {
  const tokens = createAccessTokens({ keys, users: store.users, publicUrl: config.publicUrl, clock: store.clock })
  const router = createRouter()
  router.onError((error, c) => renderProblem(error, c, pino({ level: 'silent' })))
  router.use(requestId())
  router.get('/guarded', agentGuard(tokens, store.agents, scope), (c) => c.json({ agent: c.var.agent.id }))
  return async (token: string) => {
    const answer = await router.request('/guarded', { headers: { Authorization: `Bearer ${token}` } })
    const { agent, code } = await fieldsOf(answer)
    return { status: answer.status, agent, code }
  }
}
