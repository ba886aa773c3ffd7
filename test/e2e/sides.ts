import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import { text } from 'node:stream/consumers'
import { decodeJwt } from 'jose'
import { AccessToken } from 'livekit-server-sdk'
import { z } from 'zod'
import { createWebhookReceiver } from '../../src/livekit/webhook.ts'
import type { JoinOptions, Participant } from '../scenarios/stack.ts'
import { startSfu } from '../sfu.ts'
import { joinSfu } from '../sfu-client.ts'
import { DEV_KEY, sendWebhooks } from '../sfu-webhooks.ts'
import { liveKit } from './livekit-server.ts'
import { join } from './participant.ts'
import { joinSignalOnly } from './signal.ts'

const Event = z.looseObject({
  event: z.string(),
  id: z.string(),
  createdAt: z.string(),
  room: z.looseObject({ sid: z.string(), name: z.string() }),
  participant: z.looseObject({ sid: z.string(), identity: z.string() }).optional(),
})

/** A webhook whose signature the service accepts. */
export interface Received {
  contentType: string | undefined
  /** The names of the claims that it is signed with. */
  claims: string[]
  event: z.infer<typeof Event>
}

/** LiveKit's answer as it goes over the wire. */
export interface TwirpAnswer {
  status: number
  contentType: string | null
  body: unknown
}

/** LiveKit, real or fake, as seen from outside. */
export interface Side {
  /** Asks with every grant, or without any. */
  ask: (method: string, body: Record<string, unknown>, grants?: 'all' | 'none') => Promise<TwirpAnswer>
  join: (token: string, options?: JoinOptions) => Promise<Participant>
  /** Joins and never brings its media up; the returned function drops the connection. */
  joinSignalOnly: (token: string) => Promise<() => void>
  /** The webhooks about the room so far. */
  received: (room: string) => Received[]
  close: () => Promise<void>
}

/** livekit-server, joined by real clients. */
export async function realSide(): Promise<Side> {
  const folder = await mkdtemp(joinPath(tmpdir(), 'behalf-truth-'))
  const receiver = await webhookServer()
  const server = await liveKit({ folder, webhookUrl: receiver.url })
  await server.start()
  return {
    ask: asking(server.url),
    join: (token, options) => join(server.url, token, { ...options, audio: false }),
    joinSignalOnly: (token) => joinSignalOnly(server.url, token),
    received: receiver.received,
    async close() {
      await server.kill()
      receiver.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export async function fakeSide(): Promise<Side> {
  const receiver = await webhookServer()
  const sfu = await startSfu()
  sendWebhooks(sfu, receiver.url)
  return {
    ask: asking(sfu.url),
    join: async (token, options) => joinSfu(sfu, token, options),
    async joinSignalOnly(token) {
      const leg = sfu.join(token, { state: 'JOINED' })
      return () => sfu.leave(leg, 'SIGNAL_CLOSE')
    },
    received: receiver.received,
    async close() {
      await sfu.kill()
      receiver.close()
    },
  }
}

const asking =
  (url: string): Side['ask'] =>
  async (method, body, grants = 'all') => {
    const answer = await fetch(`${url.replace(/^ws/, 'http')}/twirp/livekit.${method}`, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        ...(grants === 'all' ? { Authorization: `Bearer ${await adminToken(String(body.room ?? ''))}` } : {}),
      },
      body: JSON.stringify(body),
    })
    const contentType = answer.headers.get('Content-Type')
    return { status: answer.status, contentType, body: await answer.json() }
  }

function adminToken(room: string): Promise<string> {
  const token = new AccessToken(DEV_KEY.key, DEV_KEY.secret)
  token.addGrant({ roomAdmin: true, roomCreate: true, roomList: true, room })
  token.addSIPGrant({ call: true })
  return token.toJwt()
}

async function webhookServer() {
  const receiver = createWebhookReceiver(
    DEV_KEY,
    Date.now,
    () => {},
    () => {},
  )
  const all: Received[] = []
  const server = createServer(async (request, response) => {
    const body = await text(request)
    const { authorization = '', 'content-type': contentType } = request.headers
    try {
      receiver.open(body, await receiver.verify(authorization))
      all.push({
        contentType,
        claims: Object.keys(decodeJwt(authorization)).sort(),
        event: Event.parse(JSON.parse(body)),
      })
      response.end()
    } catch (error) {
      // LiveKit does not repeat what was refused: the comparison then lacks it.
      response.writeHead(400).end(String(error))
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    received: (room: string) => all.filter(({ event }) => event.room.name === room),
    close: () => server.close(),
  }
}
