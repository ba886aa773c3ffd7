import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'

const AccessToken = z.object({ access_token: z.string(), expires_in: z.number() })
const Problem = z.object({ code: z.string() })

export interface BehalfOptions {
  url: string
  agentId: string
  agentSecret: string
}

/** On whose behalf a job works: what our server put into the job's metadata. */
export interface Pair {
  userId: string
  sessionId: string
}

/** `accepted`: written. `ended`: the session is over for good, stop. `gave up`: the user did not come back in time. */
export type Outcome = 'accepted' | 'ended' | 'gave up'

export type Behalf = ReturnType<typeof behalf>

/** A token is renewed this long before it runs out. */
const RENEW_SECONDS = 60
/** How long a callback waits for a user who is not (or no longer) in the room. */
const PATIENCE_SECONDS = 120

/** What an agent needs of Behalf's HTTP API: a token of its own, and callbacks for a user who is there. */
export function behalf({ url, agentId, agentSecret }: BehalfOptions) {
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
    if (!response.ok) throw new Error(`/agent/token answered ${response.status}: ${await response.text()}`)
    const { access_token, expires_in } = AccessToken.parse(await response.json())
    token = { value: access_token, renewAt: Date.now() + (expires_in - RENEW_SECONDS) * 1000 }
    return access_token
  }

  return {
    bearer,

    /**
     * Posts progress until it is decided. The key stays the same over all tries, so that an answer lost on the way
     * never means a second event.
     */
    async progress({ userId, sessionId }: Pair, data: unknown, say: (line: string) => void): Promise<Outcome> {
      const key = randomUUID()
      const deadline = Date.now() + PATIENCE_SECONDS * 1000
      while (Date.now() < deadline) {
        const response = await fetch(`${url}/agent/progress`, {
          method: 'POST',
          headers: {
            Authorization: `Bearer ${await bearer()}`,
            'Content-Type': 'application/json',
            'Idempotency-Key': key,
          },
          body: JSON.stringify({ userId, sessionId, data }),
        })
        if (response.ok) return 'accepted'
        const text = await response.text()
        const code = problemCode(text)
        if (code === 'session_ended') return 'ended'
        if (code !== 'session_not_live' && response.status !== 503) {
          throw new Error(`/agent/progress answered ${response.status}: ${text}`)
        }
        // Not there yet, not there any more, or nobody can say: all three may change, so ask again when told to.
        const seconds = Number(response.headers.get('Retry-After')) || 1
        say(`not accepted yet (${code ?? response.status}), again in ${seconds} s`)
        await delay(seconds * 1000)
      }
      return 'gave up'
    },
  }
}

function problemCode(text: string): string | undefined {
  try {
    return Problem.safeParse(JSON.parse(text)).data?.code
  } catch {
    return undefined
  }
}
