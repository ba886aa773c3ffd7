import { createHash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { decodeJwt, SignJWT } from 'jose'
import { z } from 'zod'
import type { KeyPair } from '../src/config.ts'
import type { TestApp } from './support.ts'

/** How every question is answered: as it should be, or not at all, in one of the ways seen in the wild. */
export type SfuMode = 'ok' | 'error500' | 'hang' | 'html404' | 'reset'

export interface SfuParticipant {
  sid: string
  identity: string
  name: string
  metadata: string
  attributes: Record<string, string>
  kind: 'STANDARD' | 'AGENT'
  state: 'JOINING' | 'JOINED' | 'ACTIVE'
}

interface SfuRoom {
  sid: string
  name: string
  participants: Map<string, SfuParticipant>
  dispatches: Array<{ id: string; agent_name: string; room: string; metadata: string }>
}

/** One connection to one room, as webhooks name it. */
export interface Leg {
  room: { sid: string; name: string }
  participant: SfuParticipant
}

/** Something that was asked of the fake. */
export interface Question {
  method: string
  room: string
  identity: string
}

const Body = z.object({
  room: z.string().default(''),
  name: z.string().default(''),
  names: z.array(z.string()).default([]),
  identity: z.string().default(''),
  agentName: z.string().default(''),
  metadata: z.string().default(''),
})
type Body = z.infer<typeof Body>

const JoinClaims = z.object({
  sub: z.string(),
  name: z.string().default(''),
  metadata: z.string().default(''),
  attributes: z.record(z.string(), z.string()).default({}),
  kind: z.literal('agent').optional(),
  video: z.object({ roomJoin: z.literal(true), room: z.string().min(1) }),
  roomConfig: z
    .object({ agents: z.array(z.object({ agentName: z.string(), metadata: z.string().default('') })).default([]) })
    .default({ agents: [] }),
})

const newSid = (prefix: 'PA' | 'RM' | 'AD' | 'EV') => `${prefix}_${randomBytes(8).toString('hex')}`
const notFound = (msg: string) => ({ status: 404, body: { code: 'not_found', msg, meta: {} } })
const ok = (body: unknown) => ({ status: 200, body })

/**
 * A LiveKit server without media, for what the real one can't be made to do on demand: a true picture of rooms and
 * participants behind Twirp's JSON, which can stop answering. Needs no closing: it does not keep the process alive.
 */
export async function startSfu() {
  const rooms = new Map<string, SfuRoom>()
  const questions: Question[] = []
  const interrupts = new Map<string, () => void>()
  let gate = Promise.resolve()

  function roomNamed(name: string): SfuRoom {
    const room = rooms.get(name) ?? { sid: newSid('RM'), name, participants: new Map(), dispatches: [] }
    rooms.set(name, room)
    return room
  }

  function dispatch(room: SfuRoom, agentName: string, metadata: string) {
    const created = { id: newSid('AD'), agent_name: agentName, room: room.name, metadata }
    room.dispatches.push(created)
    return created
  }

  const methods: Record<string, (body: Body) => { status: number; body: unknown }> = {
    'RoomService/ListRooms': ({ names }) => {
      const listed = [...rooms.values()].filter(({ name }) => names.length === 0 || names.includes(name))
      return ok({ rooms: listed.map(({ sid, name }) => ({ sid, name })) })
    },
    'RoomService/CreateRoom': ({ name }) => ok({ sid: roomNamed(name).sid, name }),
    'RoomService/DeleteRoom': ({ room }) => (rooms.delete(room) ? ok({}) : notFound('requested room does not exist')),
    // An open-source server answers with an empty list for a room that it does not have.
    'RoomService/ListParticipants': ({ room }) =>
      ok({ participants: [...(rooms.get(room)?.participants.values() ?? [])] }),
    'RoomService/GetParticipant': ({ room, identity }) => {
      const participant = rooms.get(room)?.participants.get(identity)
      return participant ? ok(participant) : notFound('participant does not exist')
    },
    'RoomService/RemoveParticipant': ({ room, identity }) =>
      rooms.get(room)?.participants.delete(identity) ? ok({}) : notFound('participant does not exist'),
    'AgentDispatchService/ListDispatch': ({ room }) => ok({ agent_dispatches: rooms.get(room)?.dispatches ?? [] }),
    'AgentDispatchService/CreateDispatch': ({ room, agentName, metadata }) =>
      ok(dispatch(roomNamed(room), agentName, metadata)),
  }

  async function answer(request: IncomingMessage, response: ServerResponse) {
    const method = request.url?.replace('/twirp/livekit.', '') ?? ''
    const asked = method.split('/')[1] ?? ''
    const body = Body.parse(JSON.parse(await text(request)))
    questions.push({ method: asked, room: body.room, identity: body.identity })
    const interrupt = interrupts.get(asked)
    interrupts.delete(asked)
    interrupt?.()
    await gate
    switch (sfu.mode) {
      case 'hang':
        return
      case 'reset':
        return request.socket.resetAndDestroy()
      case 'html404':
        return response.writeHead(404, { 'Content-Type': 'text/html' }).end('<h1>404 Not Found</h1>')
      case 'error500':
        return send(response, { status: 500, body: { code: 'internal', msg: 'internal error', meta: {} } })
      case 'ok':
        return send(
          response,
          methods[method]?.(body) ?? { status: 404, body: { code: 'bad_route', msg: method, meta: {} } },
        )
    }
  }

  const server = createServer((request, response) => void answer(request, response))
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  server.unref()
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('The fake SFU has no port')

  const sfu = {
    /** `LIVEKIT_URL` */
    url: `ws://127.0.0.1:${address.port}`,
    mode: 'ok' as SfuMode,
    rooms,
    questions,
    /** How often it was asked: at all, or that method. */
    asked: (method?: string) => questions.filter((question) => !method || question.method === method).length,
    /** Runs once, when that method is asked next, before its answer. */
    before: (method: string, work: () => void) => void interrupts.set(method, work),
    /** Keeps every answer back until the returned function is called. */
    hold() {
      let release = () => {}
      gate = new Promise((resolve) => {
        release = resolve
      })
      return () => release()
    },
    /** A participant comes in; whoever held its identity in that room goes. */
    enter(room: string, { identity, ...given }: Partial<SfuParticipant> & Pick<SfuParticipant, 'identity'>): Leg {
      const { sid, name, participants } = roomNamed(room)
      const defaults = { sid: newSid('PA'), name: '', metadata: '', attributes: {} }
      const participant: SfuParticipant = { ...defaults, kind: 'STANDARD', state: 'ACTIVE', ...given, identity }
      participants.set(identity, participant)
      return { room: { sid, name }, participant }
    },
    /** Joins with a join token as a client would; `given` is for what no well-behaved client does. */
    join(token: string, given: Partial<SfuParticipant> = {}): Leg {
      const { sub, name, metadata, attributes, kind, video, roomConfig } = JoinClaims.parse(decodeJwt(token))
      // LiveKit reads the token's dispatch only at the join that creates the room.
      if (!rooms.has(video.room)) {
        for (const agent of roomConfig.agents) dispatch(roomNamed(video.room), agent.agentName, agent.metadata)
      }
      const asMinted = { identity: sub, name, metadata, attributes, kind: kind ? 'AGENT' : 'STANDARD' } as const
      return sfu.enter(video.room, { ...asMinted, ...given })
    },
    /** That connection ends; a newer one of the same identity stays. */
    leave({ room, participant: { identity, sid } }: Leg) {
      const participants = rooms.get(room.name)?.participants
      if (participants?.get(identity)?.sid === sid) participants.delete(identity)
    },
    /** The room is gone, with everybody in it. */
    finishRoom: (name: string) => rooms.delete(name),
  }
  return sfu
}

export type Sfu = Awaited<ReturnType<typeof startSfu>>

function send(response: ServerResponse, { status, body }: { status: number; body: unknown }) {
  // Exactly this type: the SDK compares the string.
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
}

/** LiveKit's event about a participant or a whole room, as protojson writes it: defaults are left out. */
export function webhookEvent(event: string, leg: Pick<Leg, 'room'> & Partial<Leg>, more: Record<string, unknown> = {}) {
  const { kind, ...participant } = leg.participant ?? {}
  return {
    event,
    id: newSid('EV'),
    createdAt: String(Math.floor(Date.now() / 1000)),
    room: leg.room,
    ...(leg.participant ? { participant: { ...participant, ...(kind === 'AGENT' ? { kind } : {}) } } : {}),
    ...more,
  }
}

/** LiveKit's signature over a body, by default as it should be. */
export function webhookToken(
  body: string,
  { key, secret, at, alg = 'HS256' }: KeyPair & { at: number; alg?: 'HS256' | 'HS512' },
): Promise<string> {
  const issuedAt = Math.floor(at / 1000)
  return new SignJWT({ sha256: createHash('sha256').update(body).digest('base64') })
    .setProtectedHeader({ alg, typ: 'JWT' })
    .setIssuer(key)
    .setNotBefore(issuedAt)
    .setExpirationTime(issuedAt + 5 * 60)
    .sign(Buffer.from(secret))
}

type Receiver = Pick<TestApp, 'app' | 'secrets' | 'clock'>

/** An event's raw body and headers, signed as LiveKit signs with the app's webhook key pair. */
export async function signedWebhook({ secrets, clock }: Pick<Receiver, 'secrets' | 'clock'>, event: unknown) {
  const body = JSON.stringify(event)
  const Authorization = await webhookToken(body, { ...secrets.webhook, at: clock.now() })
  return { body, headers: { Authorization, 'Content-Type': 'application/webhook+json' } }
}

/** Delivers a signed event. */
export const postWebhook = async (t: Receiver, event: unknown) =>
  t.app.request('/livekit/webhook', { method: 'POST', ...(await signedWebhook(t, event)) })
