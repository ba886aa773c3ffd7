import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { REPOSITORY } from './binaries.ts'
import { output, until } from './processes.ts'
import type { Service } from './service.ts'

const SignedIn = z.object({ user: z.object({ id: z.string() }), access_token: z.string() })
const Minted = z.object({
  server_url: z.string(),
  participant_token: z.string(),
  room_name: z.string(),
  participant_identity: z.string(),
  session_id: z.string().optional(),
  url: z.string(),
  token: z.string(),
  room: z.string(),
  identity: z.string(),
  expires_at: z.number(),
})
const Session = z.object({
  id: z.string(),
  room: z.string(),
  status: z.enum(['pending', 'live', 'disconnected', 'ended']),
})
const Events = z.object({
  events: z.array(z.object({ seq: z.number(), type: z.string(), data: z.unknown(), createdAt: z.iso.datetime() })),
})
const Problem = z.object({ code: z.string() })
const AgentSecret = z.object({ id: z.string(), secret: z.string() })

export type Minted = z.infer<typeof Minted>
export type SessionStatus = z.infer<typeof Session>['status']
export type Event = z.infer<typeof Events>['events'][number]

export interface User {
  id: string
  bearer: string
}

/** A session with the join token minted for it. */
export interface Ticket extends Minted {
  session_id: string
}

export interface Agent {
  id: string
  secret: string
  bearer: string
}

export interface Answer {
  status: number
  headers: Headers
  body: unknown
  /** Of a problem+json answer. */
  code: string | undefined
}

export interface RequestOptions {
  bearer?: string
  body?: unknown
  headers?: Record<string, string>
}

export type Api = ReturnType<typeof apiAt>

/** The service's HTTP API as its clients use it. */
export function apiAt({ url, databaseUrl }: Service) {
  async function request(method: string, path: string, { bearer, body, headers = {} }: RequestOptions = {}) {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}),
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? null : JSON.stringify(body),
    })
    const text = await response.text()
    const parsed: unknown = text && response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text
    const problem = response.ok ? undefined : Problem.safeParse(parsed).data
    return { status: response.status, headers: response.headers, body: parsed, code: problem?.code } satisfies Answer
  }

  async function expectStatus(status: number, answer: Promise<Answer>): Promise<unknown> {
    const got = await answer
    if (got.status !== status) throw new Error(`${got.status} instead of ${status}: ${JSON.stringify(got.body)}`)
    return got.body
  }

  const session = async (user: User, id: string) =>
    Session.parse(await expectStatus(200, request('GET', `/sessions/${id}`, { bearer: user.bearer })))

  /** One callback, exactly as the auth-bridge document shows it. */
  const progress = (agent: Agent, { userId, sessionId, data = { status: 'done' }, key }: ProgressOptions) =>
    request('POST', '/agent/progress', {
      bearer: agent.bearer,
      body: { userId, sessionId, data },
      headers: key ? { 'Idempotency-Key': key } : {},
    })

  /** A command of the service, run beside it. */
  function command(...given: string[]): Promise<string> {
    const args = [join(REPOSITORY, 'dist/cli.js'), ...given]
    return output(process.execPath, args, { cwd: REPOSITORY, env: { DATABASE_URL: databaseUrl } })
  }

  async function agentToken(id: string, secret: string): Promise<string> {
    const response = await fetch(`${url}/agent/token`, {
      method: 'POST',
      headers: {
        Authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
        'Content-Type': 'application/x-www-form-urlencoded',
      },
      body: 'grant_type=client_credentials',
    })
    if (response.status !== 200) throw new Error(`/agent/token: ${response.status} ${await response.text()}`)
    const { access_token } = z.object({ access_token: z.string() }).parse(await response.json())
    return access_token
  }

  return {
    url,
    command,
    request,
    agentToken,
    session,
    progress,

    async guest(): Promise<User> {
      const { user, access_token } = SignedIn.parse(
        await expectStatus(201, request('POST', '/auth/guest', { body: {} })),
      )
      return { id: user.id, bearer: access_token }
    },

    async register(): Promise<User & { email: string }> {
      const email = `${randomUUID()}@example.com`
      const body = { email, password: 'correct horse battery staple', name: 'Ada' }
      const { user, access_token } = SignedIn.parse(
        await expectStatus(201, request('POST', '/auth/register', { body })),
      )
      return { id: user.id, bearer: access_token, email }
    },

    /** POST /token as a user: a session and its join token. */
    async mint(user: User, body: Record<string, unknown> = {}): Promise<Ticket> {
      const minted = Minted.parse(await expectStatus(201, request('POST', '/token', { bearer: user.bearer, body })))
      if (minted.session_id === undefined) throw new Error('no session_id')
      return { ...minted, session_id: minted.session_id }
    },

    /** POST /token as an agent: a join token for a room where a user is in a session. */
    async mintForAgent(agent: Agent, body: Record<string, unknown>): Promise<Minted> {
      return Minted.parse(await expectStatus(201, request('POST', '/token', { bearer: agent.bearer, body })))
    },

    async events(user: User, sessionId: string, after = 0): Promise<Event[]> {
      const page = request('GET', `/sessions/${sessionId}/events?after=${after}`, { bearer: user.bearer })
      return Events.parse(await expectStatus(200, page)).events
    },

    /** Waits until the session has the status. */
    untilStatus: (user: User, sessionId: string, status: SessionStatus, seconds?: number) =>
      until(`session is ${status}`, async () => (await session(user, sessionId)).status === status, seconds),

    /**
     * Calls back until the guard refuses: the refusal, and in milliseconds from now when it came and when the last
     * callback was accepted (0 when none was).
     */
    async untilRefused(agent: Agent, pair: ProgressOptions, seconds?: number): Promise<Refusal> {
      const start = performance.now()
      const elapsed = () => Math.round(performance.now() - start)
      let lastAcceptedMs = 0
      const answer = await until(
        'a callback is refused',
        async () => {
          const got = await progress(agent, pair)
          if (got.status !== 201) return got
          lastAcceptedMs = elapsed()
          return undefined
        },
        seconds,
      )
      return { answer, refusedMs: elapsed(), lastAcceptedMs }
    },

    /** Waits until a callback is accepted, past the second for which a refusal is reused. */
    untilAccepted: (agent: Agent, pair: ProgressOptions, seconds?: number) =>
      until(
        'a callback is accepted',
        async () => {
          const got = await progress(agent, pair)
          return got.status === 201 ? got : undefined
        },
        seconds,
      ),

    /** Ends a session as its user. */
    async end(user: User, id: string): Promise<void> {
      const { status, body } = await request('DELETE', `/sessions/${id}`, { bearer: user.bearer })
      if (status >= 300) throw new Error(`DELETE /sessions: ${status} ${JSON.stringify(body)}`)
    },

    untilHealth: (status: number) =>
      until(`/health answers ${status}`, async () => (await request('GET', '/health')).status === status),

    /** An agent account made beside the running service, with its access token. */
    async agent(name: string, scopes: string[] = []): Promise<Agent> {
      const options = scopes.flatMap((scope) => ['--scope', scope])
      const printed = await command('agent', 'create', name, ...options, '--json')
      const { id, secret } = AgentSecret.parse(JSON.parse(printed))
      return { id, secret, bearer: await agentToken(id, secret) }
    },
  }
}

export interface Refusal {
  answer: Answer
  refusedMs: number
  lastAcceptedMs: number
}

export interface ProgressOptions {
  userId: string
  sessionId: string
  data?: unknown
  key?: string
}
