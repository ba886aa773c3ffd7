import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'

const AccessToken = z.object({ access_token: z.string(), expires_in: z.number() })
const Problem = z.object({ code: z.string(), detail: z.string().optional() })
const Context = z.object({ user: z.object({ id: z.string(), name: z.string().optional() }) })

export type Context = z.infer<typeof Context>

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
  let token: { value: string; renewAt: number } | undefined

  /** RFC 6749 client credentials: the agent's own account, never the user's token. */
  async function bearer(): Promise<string> {
    if (token && Date.now() < token.renewAt) return token.value
    const response = await fetch(`${url}/agent/token`, {
      method: 'POST',
      headers: {
        Authorization: `Basic ${Buffer.from(`${agentId}:${agentSecret}`).toString('base64')}`,
        'Content-Type': 'application/x-www-form-urlencoded',
      },
      body: 'grant_type=client_credentials',
    })
    if (!response.ok) throw new Refused(await reason(response))
    const { access_token, expires_in } = AccessToken.parse(await response.json())
    say(token ? 'renewed its token' : 'has a token of its own')
    token = { value: access_token, renewAt: Date.now() + (expires_in - renewSeconds) * 1000 }
    return access_token
  }

  async function send(path: string, init: RequestInit, key: string): Promise<Response> {
    const headers = { ...init.headers, Authorization: `Bearer ${await bearer()}`, 'Idempotency-Key': key }
    return fetch(`${url}${path}`, { ...init, headers })
  }

  /**
   * Asks until it is decided. All tries have the same key, so that an answer lost on the way never means a second event.
   * @throws Refused
   */
  async function call(path: string, init: RequestInit = {}): Promise<unknown> {
    const key = randomUUID()
    const deadline = Date.now() + patienceSeconds * 1000
    for (;;) {
      const response = await send(path, init, key).catch(unreachable)
      if (response.ok) return response.json()
      const why = await reason(response)
      const seconds = Number(response.headers.get('Retry-After')) || 1
      // Not there yet, not there any more, or nobody can say: that may change. All else is final.
      const mayChange = response.status === 503 || why.startsWith('409 session_not_live')
      if (!mayChange || over.aborted || Date.now() + seconds * 1000 > deadline) throw new Refused(why)
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

/** Status, code and sentence of a refusal, for a log. */
async function reason(response: Response): Promise<string> {
  const text = await response.text()
  const isJson = response.headers.get('Content-Type')?.includes('json') ?? false
  const problem = isJson ? Problem.safeParse(JSON.parse(text)).data : undefined
  return `${response.status} ${problem?.code ?? ''}: ${problem?.detail ?? text.slice(0, 80)}`
}

/** A service that cannot be reached is one that cannot say, for now. */
function unreachable(error: unknown): Response {
  if (error instanceof Refused) throw error
  return new Response(`no answer (${String(error)})`, { status: 503 })
}
