import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'

const AccessToken = z.object({ access_token: z.string(), expires_in: z.number() })
/** RFC 9457, and of `/agent/token` RFC 6749 §5.2. */
const Problem = z.object({
  code: z.string().optional(),
  detail: z.string().optional(),
  error: z.string().optional(),
  error_description: z.string().optional(),
})
const Context = z.object({ user: z.object({ id: z.string(), name: z.string().optional() }) })

export type Context = z.infer<typeof Context>

/** The service answers within a few seconds, also when LiveKit does not. */
const ATTEMPT_MS = 10_000
/** Too many requests, or out of order; also in the words of a proxy. */
const UNAVAILABLE = [429, 502, 503, 504]
/** How long that may last: a restart of the service, or a limit that counts by the minute. */
const UNAVAILABLE_SECONDS = 90

export interface BehalfOptions {
  url: string
  agentId: string
  agentSecret: string
  /** A token is renewed this long before it runs out. */
  renewSeconds: number
  /** How long a user who left may take to come back: a reload, a lost network. */
  patienceSeconds: number
  say: (line: string) => void
  /** Aborted when waiting for the user makes no sense any more. */
  over: AbortSignal
}

/** On whose behalf a job works: what our server put into the job's metadata. */
export interface Pair {
  userId: string
  sessionId: string
}

/** Not accepted, and asking again would not change that. */
export class Refused extends Error {}

/** What an agent needs of Behalf's HTTP API: a token of its own, and callbacks for a user who is there. */
export function behalf({ url, agentId, agentSecret, renewSeconds, patienceSeconds, say, over }: BehalfOptions) {
  let token = { value: '', renewAt: 0 }

  /** With a token of the agent's own (RFC 6749 client credentials), never the user's; or why it gets none. */
  async function send(path: string, init: RequestInit, key: string): Promise<Answer> {
    if (Date.now() >= token.renewAt) {
      const answer = await ask(`${url}/agent/token`, {
        method: 'POST',
        headers: {
          Authorization: `Basic ${Buffer.from(`${agentId}:${agentSecret}`).toString('base64')}`,
          'Content-Type': 'application/x-www-form-urlencoded',
        },
        body: 'grant_type=client_credentials',
      })
      if (!answer.ok) return answer
      const { access_token, expires_in } = AccessToken.parse(JSON.parse(answer.text))
      say(token.value ? 'renewed its token' : 'has a token of its own')
      token = { value: access_token, renewAt: Date.now() + (expires_in - renewSeconds) * 1000 }
    }
    const headers = { ...init.headers, Authorization: `Bearer ${token.value}`, 'Idempotency-Key': key }
    return ask(url + path, { ...init, headers })
  }

  /**
   * Asks until it is decided. All tries have the same key, so that an answer lost on the way never means a second event.
   * @throws Refused
   */
  async function call(path: string, init: RequestInit = {}): Promise<unknown> {
    const key = randomUUID()
    const start = Date.now()
    let mayRenew = true
    for (;;) {
      const answer = await send(path, init, key)
      if (answer.ok) return JSON.parse(answer.text)
      const { code, why } = reason(answer)
      // The service's key was replaced, or the account's secret. If a new token is refused too, it is something else.
      if (code === 'invalid_token' && mayRenew) {
        mayRenew = false
        token.renewAt = 0
        continue
      }
      // Not there yet, not there any more, or nobody can say: that may change. All else is final.
      const unavailableSeconds = UNAVAILABLE.includes(answer.status) ? UNAVAILABLE_SECONDS : 0
      const patience = code === 'session_not_live' ? patienceSeconds : unavailableSeconds
      const seconds = answer.retryAfterSeconds
      if (over.aborted || Date.now() - start + seconds * 1000 > patience * 1000) throw new Refused(why)
      say(`refused for now: ${why} Again in ${seconds} s`)
      await delay(seconds * 1000, undefined, { signal: over }).catch(() => undefined)
    }
  }

  return {
    async context({ userId, sessionId }: Pair): Promise<Context> {
      return Context.parse(await call(`/agent/context?${new URLSearchParams({ userId, sessionId })}`))
    },

    async progress({ userId, sessionId }: Pair, data: Record<string, unknown>): Promise<void> {
      await call('/agent/progress', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ userId, sessionId, data }),
      })
    },
  }
}

interface Answer {
  ok: boolean
  status: number
  text: string
  retryAfterSeconds: number
}

/** One try. A service that cannot be reached, or not to the end of its answer, is one that cannot say, for now. */
async function ask(url: string, init: RequestInit): Promise<Answer> {
  try {
    const response = await fetch(url, { ...init, signal: AbortSignal.timeout(ATTEMPT_MS) })
    const { ok, status, headers } = response
    return { ok, status, text: await response.text(), retryAfterSeconds: Number(headers.get('Retry-After')) || 1 }
  } catch (error) {
    return { ok: false, status: 503, text: `no answer (${String(error)})`, retryAfterSeconds: 1 }
  }
}

/** The code of a refusal; and with its status and sentence, for a log. */
function reason({ status, text }: Answer): { code: string; why: string } {
  const problem = problemIn(text)
  const code = problem.code ?? problem.error ?? ''
  return { code, why: `${status} ${code}: ${problem.detail ?? problem.error_description ?? text.slice(0, 80)}` }
}

function problemIn(text: string): z.infer<typeof Problem> {
  try {
    return Problem.parse(JSON.parse(text))
  } catch {
    return {}
  }
}
