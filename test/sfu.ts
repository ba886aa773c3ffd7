import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { decodeJwt, SignJWT } from 'jose'
import { z } from 'zod'
import type { KeyPair } from '../src/config.ts'
import { newSid, type SfuEvent, sfuRooms } from './sfu-rooms.ts'
import {
  dispatchAnswer,
  participantAnswer,
  participantInWebhook,
  refusal,
  roomAnswer,
  sipParticipantAnswer,
} from './sfu-wire.ts'
import type { TestApp } from './support.ts'

/** How every request is answered: normally, or with a failure seen in practice. */
export type SfuMode = 'ok' | 'error500' | 'hang' | 'html404' | 'html200' | 'reset' | 'refuse' | 'redirect'

/** A request that the fake received. */
export interface Question {
  method: string
  room: string
  identity: string
  revokeTokenTs: string
}

const Body = z.object({
  room: z.string().default(''),
  name: z.string().default(''),
  names: z.array(z.string()).default([]),
  identity: z.string().default(''),
  revokeTokenTs: z.string().default(''),
  agentName: z.string().default(''),
  metadata: z.string().default(''),
  attributes: z.record(z.string(), z.string()).default({}),
  dispatchId: z.string().default(''),
  emptyTimeout: z.number().default(0),
  departureTimeout: z.number().default(0),
  sipTrunkId: z.string().default(''),
  sipCallTo: z.string().default(''),
  roomName: z.string().default(''),
  participantIdentity: z.string().default(''),
  participantAttributes: z.record(z.string(), z.string()).default({}),
  hidePhoneNumber: z.boolean().default(false),
})
type Body = z.infer<typeof Body>

const ok = (body: unknown) => ({ status: 200, body })
const unauthenticated = { status: 401, body: { code: 'unauthenticated', msg: 'permissions denied' } }
const noParticipant = refusal(404, 'not_found', 'participant does not exist')
const noDispatch = refusal(404, 'not_found', 'dispatch ID not found')
// The real server without Redis has no SIP service, and checks nothing else first.
const noSip = refusal(500, 'internal', 'sip not connected (redis required)')
const noTrunk = refusal(404, 'not_found', 'requested sip trunk does not exist')
const noRoom = refusal(404, 'not_found', 'requested room does not exist')
// LiveKit asks whichever node has the room, and waits 3 s for it to answer.
const noNode = refusal(503, 'unavailable', 'no response from servers')

/**
 * A LiveKit server without media, for what the real one can't be made to do on demand: a true picture of rooms and
 * participants behind Twirp's JSON, which can stop answering. Needs no closing: it does not keep the process alive.
 */
export async function startSfu({ path = '' } = {}) {
  /** Ids of outbound trunks; without any there is no SIP service. */
  const trunks = new Set<string>()
  /** What was sent to place calls. */
  const calls: Array<{ message: unknown; grants: Record<string, unknown> }> = []
  const { rooms, named, dispatch, undispatch, ...acts } = sfuRooms()
  const questions: Question[] = []
  const interrupts = new Map<string, () => unknown>()
  let gate = Promise.resolve()

  const methods: Record<string, (body: Body) => { status: number; body: unknown }> = {
    'RoomService/ListRooms': ({ names }) => {
      const listed = [...rooms.values()].filter(({ name }) => names.length === 0 || names.includes(name))
      return ok({ rooms: listed.map(roomAnswer) })
    },
    'RoomService/CreateRoom': ({ name, ...timeouts }) => ok(roomAnswer(named(name, timeouts))),
    'RoomService/DeleteRoom': ({ room }) => (acts.finishRoom(room) ? ok({}) : noRoom),
    // An open-source server answers with an empty list for a room that it does not have.
    'RoomService/ListParticipants': ({ room }) =>
      ok({ participants: [...(rooms.get(room)?.participants.values() ?? [])].map(participantAnswer) }),
    'RoomService/GetParticipant': ({ room, identity }) => {
      const participant = rooms.get(room)?.participants.get(identity)
      return participant ? ok(participantAnswer(participant)) : noParticipant
    },
    'RoomService/RemoveParticipant': ({ room, identity }) => (acts.remove(room, identity) ? ok({}) : noParticipant),
    'AgentDispatchService/ListDispatch': ({ room }) => {
      const dispatches = rooms.get(room)?.dispatches
      return dispatches ? ok({ agent_dispatches: dispatches.map(dispatchAnswer) }) : noNode
    },
    'AgentDispatchService/CreateDispatch': ({ room, agentName, metadata, attributes }) =>
      ok(dispatchAnswer(dispatch(named(room), agentName, metadata, attributes))),
    'AgentDispatchService/DeleteDispatch': ({ room, dispatchId }) => {
      const deleted = undispatch(room, dispatchId)
      return deleted ? ok(dispatchAnswer(deleted)) : noDispatch
    },
    // The SIP service joins the room, answers, and then dials.
    'SIP/CreateSIPParticipant': ({ sipTrunkId, sipCallTo, roomName, participantIdentity, ...call }) => {
      if (trunks.size === 0) return noSip
      if (!trunks.has(sipTrunkId)) return noTrunk
      const number = call.hidePhoneNumber ? {} : { 'sip.phoneNumber': sipCallTo }
      const attributes = { ...call.participantAttributes, 'sip.callStatus': 'dialing', ...number }
      const { participant } = acts.enter(roomName, { identity: participantIdentity, kind: 'SIP', attributes })
      return ok(sipParticipantAnswer(participant, roomName))
    },
  }

  async function answer(request: IncomingMessage, response: ServerResponse) {
    const method = request.url?.replace(`${path}/twirp/livekit.`, '') ?? ''
    const asked = method.split('/')[1] ?? ''
    const message = JSON.parse(await text(request))
    const body = Body.parse(message)
    questions.push({ method: asked, room: body.room, identity: body.identity, revokeTokenTs: body.revokeTokenTs })
    const interrupt = interrupts.get(asked)
    interrupts.delete(asked)
    await interrupt?.()
    await gate
    response.sendDate = false
    if (sfu.clock) response.setHeader('Date', new Date(sfu.clock()).toUTCString())
    if (!request.headers.authorization) return send(response, unauthenticated)
    if (asked === 'CreateSIPParticipant') calls.push({ message, grants: grantsIn(request.headers.authorization) })
    switch (sfu.mode) {
      case 'hang':
        return
      case 'reset':
        return request.socket.resetAndDestroy()
      case 'html404':
        return response.writeHead(404, { 'Content-Type': 'text/html' }).end('<h1>404 Not Found</h1>')
      case 'html200':
        return response.writeHead(200, { 'Content-Type': 'text/html' }).end('<h1>It works!</h1>')
      case 'redirect':
        return response.writeHead(301, { Location: `https://127.0.0.1${request.url}` }).end()
      case 'refuse': {
        // As LiveKit up to 1.13.5 words it, the refused token included.
        const said = `invalid token: ${request.headers.authorization}, error: go-jose: token not valid yet (nbf)`
        return response.writeHead(401, { 'Content-Type': 'text/plain' }).end(said)
      }
      case 'error500':
        return send(response, { status: 500, body: { code: 'internal', msg: 'internal error', meta: {} } })
      case 'ok':
        return send(
          response,
          sfu.alter(methods[method]?.(body) ?? { status: 404, body: { code: 'bad_route', msg: method, meta: {} } }),
        )
    }
  }

  const server = createServer((request, response) => void answer(request, response))
  const listen = (port: number) => new Promise<void>((done) => server.listen(port, '127.0.0.1', done))
  await listen(0)
  server.unref()
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('The fake SFU has no port')
  const { port } = address

  const sfu = {
    /** `LIVEKIT_URL` */
    url: `ws://127.0.0.1:${port}${path}`,
    mode: 'ok' as SfuMode,
    /** What the `Date` of its answers says; without it they have none, since the service's clock moves by hand. */
    clock: undefined as (() => number) | undefined,
    /** Changes its answers, into those of a LiveKit that is newer than the service. */
    alter: (answer: { status: number; body: unknown }) => answer,
    rooms,
    /** For what else LiveKit serves there. */
    server,
    trunks,
    calls,
    questions,
    /** How many requests it received, in total or for that method. */
    asked: (method?: string) => questions.filter((question) => !method || question.method === method).length,
    /** Runs once, before the next answer of that method. */
    before: (method: string, work: () => unknown) => void interrupts.set(method, work),
    /** Holds every answer until the returned function is called. */
    hold() {
      let release = () => {}
      gate = new Promise((resolve) => {
        release = resolve
      })
      return () => release()
    },
    /** Simulates a crash of the process: no webhooks are sent, and its rooms are lost. */
    async kill() {
      const closed = new Promise((done) => server.close(done))
      server.closeAllConnections()
      rooms.clear()
      await closed
    },
    /** Starts again after `kill`, on the same port. */
    start: () => listen(port),
    ...acts,
  }
  return sfu
}

/** A token's claims without those that every token has. */
function grantsIn(authorization: string) {
  const { iss, exp, nbf, sub, iat, ...grants } = decodeJwt(authorization.slice('Bearer '.length))
  return grants
}

export type Sfu = Awaited<ReturnType<typeof startSfu>>

function send(response: ServerResponse, { status, body }: { status: number; body: unknown }) {
  // Exactly this type: the SDK compares the string.
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
}

/** LiveKit's event about a participant or a whole room, as protojson writes it: defaults are left out. */
export function webhookEvent(event: string, leg: Omit<SfuEvent, 'event'>, more: Record<string, unknown> = {}) {
  return {
    event,
    id: newSid('EV'),
    createdAt: String(Math.floor(Date.now() / 1000)),
    room: leg.room,
    ...(leg.participant ? { participant: participantInWebhook(leg.participant, leg.disconnectReason) } : {}),
    ...more,
  }
}

/** LiveKit's signature over a body, by default as it should be. */
export function webhookToken(
  body: string,
  {
    key,
    secret,
    at,
    alg = 'HS256',
    seconds = 5 * 60,
  }: KeyPair & { at: number; alg?: 'HS256' | 'HS512'; seconds?: number },
): Promise<string> {
  const issuedAt = Math.floor(at / 1000)
  return new SignJWT({ sha256: createHash('sha256').update(body).digest('base64') })
    .setProtectedHeader({ alg, typ: 'JWT' })
    .setIssuer(key)
    .setIssuedAt(issuedAt)
    .setNotBefore(issuedAt)
    .setExpirationTime(issuedAt + seconds)
    .sign(Buffer.from(secret))
}

type Receiver = Pick<TestApp, 'app' | 'secrets' | 'clock'>

/** An event's raw body and headers, signed as LiveKit signs with the app's webhook key pair. */
export async function signedWebhook(
  { secrets, clock }: Pick<Receiver, 'secrets' | 'clock'>,
  event: unknown,
  at = clock.now(),
  seconds?: number,
) {
  const body = JSON.stringify(event)
  const Authorization = await webhookToken(body, { ...secrets.webhook, at, ...(seconds ? { seconds } : {}) })
  return { body, headers: { Authorization, 'Content-Type': 'application/webhook+json' } }
}

/** Delivers a signed event, by default of a LiveKit whose clock shows what the service's shows. */
export const postWebhook = async (t: Receiver, event: unknown, at?: number) =>
  t.app.request('/livekit/webhook', { method: 'POST', ...(await signedWebhook(t, event, at)) })
