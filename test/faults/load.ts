import { createHash, randomUUID } from 'node:crypto'
import { z } from 'zod'
import { type Agent, type Api, apiAt, type Ticket, type User } from '../e2e/api.ts'
import type { Service } from '../e2e/service.ts'
import { type Sfu, webhookEvent, webhookToken } from '../sfu.ts'
import type { Leg } from '../sfu-rooms.ts'
import { DEV_KEY } from '../sfu-webhooks.ts'

const Refreshed = z.object({ refresh_token: z.string() })
const Stored = z.object({ seq: z.number() })

export const refreshTokenOf = (answer: unknown) => Refreshed.parse(answer).refresh_token

export const seqOf = (answer: unknown) => Stored.parse(answer).seq
export const hashOf = (token: string) => createHash('sha256').update(token).digest('hex')

/** What the service said was done. */
export interface Acknowledged {
  /** Parent and child of each rotation, as stored. */
  rotations: Array<{ parent: string; child: string }>
  webhooks: string[]
  progress: Array<{ sessionId: string; seq: number; key: string }>
  /** What was answered with anything but success, or with a connection that broke. */
  failures: string[]
}

export const nothingYet = (): Acknowledged => ({ rotations: [], webhooks: [], progress: [], failures: [] })

/** One sign-in whose tokens are rotated one after the other; a lost answer is asked for again with the same token. */
interface Family {
  token: string
}

export interface Load {
  /** Starts everything at once; resolves when all of it has stopped, because `running` says so or the service no longer answers. */
  run: (running: () => boolean) => Promise<Acknowledged>
}

/** Refreshes, webhooks and progress, mixed, each by several clients at once. */
export async function mixedLoad(service: Service, sfu: Sfu, parallel: number): Promise<Load> {
  const api = apiAt(service)
  const agent = await api.agent('tutor')
  const families = await Promise.all(Array.from({ length: parallel }, () => newFamily(api)))
  const sessions = await Promise.all(Array.from({ length: parallel }, () => newSession(api, sfu)))

  return {
    async run(running) {
      const done = nothingYet()
      const loop = async (name: string, work: () => Promise<void>) => {
        while (running()) {
          try {
            await work()
          } catch (error) {
            done.failures.push(`${name}: ${String(error)}`)
            return
          }
        }
      }
      await Promise.all([
        ...families.map((family) => loop('refresh', () => refresh(api, family, done))),
        ...sessions.map((session) => loop('progress', () => postProgress(api, agent, session, done))),
        ...sessions.map((session) => loop('webhook', () => repeatJoin(service, sfu, session, done))),
      ])
      return done
    },
  }
}

async function newFamily(api: Api): Promise<Family> {
  const { body } = await api.request('POST', '/auth/guest', { body: {} })
  return { token: refreshTokenOf(body) }
}

async function newSession(api: Api, sfu: Sfu) {
  const user = await api.guest()
  const ticket = await api.mint(user)
  return { user, ticket, leg: sfu.join(ticket.participant_token), posted: 0 }
}

interface LiveSession {
  user: User
  ticket: Ticket
  leg: Leg
  posted: number
}

/** 200 is the only right answer, also for a token whose rotation was cut off by a crash. */
async function refresh(api: Api, family: Family, done: Acknowledged): Promise<void> {
  const { status, body } = await api.request('POST', '/auth/refresh', { body: { refresh_token: family.token } })
  if (status !== 200) throw new Error(`${status}`)
  const child = refreshTokenOf(body)
  done.rotations.push({ parent: hashOf(family.token), child: hashOf(child) })
  family.token = child
}

/** The same key until it is acknowledged, as an agent does. */
async function postProgress(api: Api, agent: Agent, session: LiveSession, done: Acknowledged): Promise<void> {
  const key = `${session.ticket.session_id}-${session.posted}`
  const pair = { userId: session.user.id, sessionId: session.ticket.session_id }
  const { status, body } = await api.progress(agent, { ...pair, data: { posted: session.posted }, key })
  if (status !== 201) throw new Error(`${status} ${JSON.stringify(body)}`)
  done.progress.push({ sessionId: pair.sessionId, seq: seqOf(body), key })
  session.posted++
}

/** The user's join, delivered again under a new id: it is stored and changes no liveness. */
async function repeatJoin({ url }: Service, sfu: Sfu, { leg }: LiveSession, done: Acknowledged): Promise<void> {
  const body = { ...webhookEvent('participant_joined', leg), id: `EV_${randomUUID()}` }
  const text = JSON.stringify(body)
  const Authorization = await webhookToken(text, { ...DEV_KEY, at: Date.now() })
  const headers = { Authorization, 'Content-Type': 'application/webhook+json' }
  const answer = await fetch(`${url}/livekit/webhook`, { method: 'POST', headers, body: text })
  await answer.arrayBuffer()
  if (answer.status !== 200) throw new Error(`${answer.status}`)
  done.webhooks.push(body.id)
  if (sfu.questions.length > 10_000) sfu.questions.length = 0
}
