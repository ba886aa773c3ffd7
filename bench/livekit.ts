// A LiveKit without media, as a process of its own: to it every user that it is asked about is in the room. User and session have
// names with one ending (store.ts), so it needs to know none of them. Its parent says how it behaves, and is told what it was asked.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'

export interface Behaviour {
  /** Milliseconds before each answer. */
  delayMs: number
  /** Refuses connections. */
  isDown: boolean
}

/** What it was asked since its behaviour was last set. */
export interface Heard {
  /** How often about a participant. */
  asked: number
  /** How often for all rooms, as the service does when it compares with LiveKit. */
  passes: number
}

const port = Number(process.argv[2])
const SECOND = String(Math.floor(Date.now() / 1000))
let delayMs = 0
let heard: Heard = { asked: 0, passes: 0 }

function participant(identity: string) {
  const ending = identity.slice('user_'.length)
  const permission = { can_subscribe: true, can_publish: true, can_publish_data: true, can_publish_sources: [] }
  return {
    ...{ sid: `PA_${ending.slice(-12)}`, identity, state: 'ACTIVE', tracks: [], metadata: '', joined_at: SECOND },
    ...{ name: '', version: 3, permission, region: '', is_publisher: true, kind: 'STANDARD' },
    ...{ attributes: { sessionId: `sess_${ending}`, userId: identity }, disconnect_reason: 'UNKNOWN_REASON' },
  }
}

function answerTo(method: string, { identity = '' }: { identity?: string }): unknown {
  switch (method) {
    case 'GetParticipant':
      heard.asked++
      return participant(identity)
    case 'ListRooms':
      heard.passes++
      return { rooms: [] }
    case 'ListParticipants':
      return { participants: [] }
    case 'ListDispatch':
      return { agent_dispatches: [] }
    default:
      return {}
  }
}

async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const method = request.url?.split('/').at(-1) ?? ''
  const body = JSON.stringify(answerTo(method, JSON.parse((await text(request)) || '{}')))
  const send = () => response.writeHead(200, { 'Content-Type': 'application/json' }).end(body)
  if (delayMs > 0) setTimeout(send, delayMs)
  else send()
}

const server = createServer((request, response) => void respond(request, response))
server.listen(port, '127.0.0.1')

process.on('message', (behaviour: Behaviour) => {
  delayMs = behaviour.delayMs
  const done = () => {
    process.send?.(heard)
    heard = { asked: 0, passes: 0 }
  }
  if (behaviour.isDown && server.listening) {
    server.close(done)
    server.closeAllConnections()
  } else if (!behaviour.isDown && !server.listening) server.listen(port, '127.0.0.1', done)
  else done()
})
