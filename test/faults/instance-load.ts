import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { agentClient, ProblemError, userClient } from '#client'
import { type Sfu, webhookEvent, webhookToken } from '../sfu.ts'
import { type Instances, LIVEKIT_KEY } from './instances.ts'

/** What clients were told was done, and what they were told was not. */
export interface Told {
  sessions: string[]
  progress: Array<{ sessionId: string; key: string; seq: number }>
  webhooks: string[]
  /** Hashes of the refresh tokens that clients hold. */
  refreshTokens: string[]
  /** Of calls through the clients, retries included. */
  failures: string[]
  calls: number
  attempts: number
  /** Attempts that were answered with 503. */
  unavailable: number
  /** When each call was answered, of `performance.now`. */
  answeredAt: number[]
}

const nothing = (): Told => ({
  sessions: [],
  progress: [],
  webhooks: [],
  refreshTokens: [],
  failures: [],
  calls: 0,
  attempts: 0,
  unavailable: 0,
  answeredAt: [],
})

/** What each of the clients keeps doing, through their own packages' retries. */
export async function instanceLoad({ api, sfu, agent: newAgent }: Instances, clients: number) {
  const told = nothing()
  const { id, secret } = await newAgent(`load-${randomUUID().slice(0, 8)}`)
  const counted: typeof fetch = async (...request) => {
    told.attempts += 1
    const answer = await fetch(...request)
    if (answer.status === 503) told.unavailable += 1
    return answer
  }
  const agent = agentClient({ url: api.url, id, secret, fetch: counted })

  async function call<T>(name: string, work: () => Promise<T>): Promise<T | undefined> {
    // A refresh is two requests.
    told.calls += name === 'refresh' ? 2 : 1
    try {
      const answer = await work()
      told.answeredAt.push(performance.now())
      return answer
    } catch (error) {
      const { code, status } = error instanceof ProblemError ? error : { code: String(error), status: 0 }
      told.failures.push(`${name}: ${status} ${code}`)
      // As a person would, before they try again.
      await delay(50)
      return undefined
    }
  }

  async function one(running: () => boolean): Promise<void> {
    let refreshToken: string | null = null
    const storage = {
      get: () => refreshToken,
      set(token: string | null) {
        refreshToken = token
      },
    }
    const user = userClient({ url: api.url, fetch: counted, storage })
    while (running() && !(await call('guest', () => user.guest())));
    while (running()) {
      const ticket = await call('token', () => user.joinToken())
      if (!ticket) continue
      const { session_id: sessionId = '' } = ticket
      told.sessions.push(sessionId)
      const leg = sfu.join(ticket.participant_token)
      const pair = { userId: leg.participant.identity, sessionId }
      await webhook(api.url, sfu, webhookEvent('participant_joined', leg))
      for (let i = 0; i < 5 && running(); i++) {
        const key = randomUUID()
        const stored = await call('progress', () => agent.progress(pair, { i }, { idempotencyKey: key }))
        if (stored) told.progress.push({ sessionId, key, seq: stored.seq })
        await call('session', () => user.sessions.get(sessionId))
      }
      // A new client with the same storage, as after a reload, refreshes.
      await call('refresh', () => userClient({ url: api.url, fetch: counted, storage }).me())
      await call('end', () => user.sessions.end(sessionId))
    }
    if (refreshToken !== null) told.refreshTokens.push(createHash('sha256').update(refreshToken).digest('hex'))
  }

  /** LiveKit sends it again until it is acknowledged. */
  async function webhook(url: string, sfu: Sfu, event: object): Promise<void> {
    const eventId = `EV_${randomUUID()}`
    const body = JSON.stringify({ ...event, id: eventId })
    const Authorization = await webhookToken(body, { ...LIVEKIT_KEY, at: Date.now() })
    const headers = { Authorization, 'Content-Type': 'application/webhook+json' }
    for (let attempt = 0; attempt < 20; attempt++) {
      const answer = await fetch(`${url}/livekit/webhook`, { method: 'POST', headers, body }).catch(() => undefined)
      await answer?.arrayBuffer().catch(() => undefined)
      if (answer?.ok) return void told.webhooks.push(eventId)
      await delay(100)
    }
    if (sfu.questions.length > 10_000) sfu.questions.length = 0
  }

  return {
    told,
    run: (running: () => boolean) => Promise.all(Array.from({ length: clients }, () => one(running))),
  }
}

/** Everything that clients were told is in the database, and nothing is there twice. */
export async function expectAllStored({ sql }: Instances, told: Told): Promise<void> {
  const missing = async (ids: string[], query: string) => {
    const found = new Set((await sql<{ id: string }>(query, [ids])).map(({ id }) => id))
    return ids.filter((id) => !found.has(id))
  }
  expect(await missing(told.sessions, 'select id from sessions where id = any($1)'), 'lost sessions').toEqual([])
  expect(await missing(told.webhooks, 'select id from webhook_events where id = any($1)'), 'lost webhooks').toEqual([])
  expect(
    await missing(told.refreshTokens, 'select hash as id from refresh_tokens where hash = any($1)'),
    'lost sign-ins',
  ).toEqual([])
  const events = await sql<{ key: string; seq: number }>(
    `select k.key, e.seq::int from idempotency_keys k join events e on e.session_id = k.session_id and e.seq = k.seq`,
  )
  const seqs = new Map(events.map(({ key, seq }) => [key, seq]))
  expect(seqs.size, 'keys stored twice').toBe(events.length)
  expect(
    told.progress.filter(({ key, seq }) => seqs.get(key) !== seq),
    'lost events',
  ).toEqual([])
  expect(
    await sql(`select s.id from sessions s left join events e on e.session_id = s.id
      group by s.id having count(e.seq) <> s.last_seq`),
    'sessions whose seq has a gap',
  ).toEqual([])
}
