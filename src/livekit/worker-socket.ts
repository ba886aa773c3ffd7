import { WebSocket } from 'ws'
import type { KeyPair } from '../config.ts'
import { createHs256 } from './hs256.ts'
import { LiveKitError } from './livekit.ts'
import { unavailable } from './twirp.ts'

/** Seconds. The token serves for one connect; a slow clock may be that far behind. */
const TOKEN_SECONDS = 600
/** Milliseconds that LiveKit has to accept the connection. */
const TIMEOUT_MS = 5_000

/** Bytes of one message: the job's room, its participant and their metadata. */
const MAX_MESSAGE_BYTES = 1024 * 1024

/** Opens a worker's connection to LiveKit. @throws AppError `livekit_unavailable` */
export type ConnectWorker = () => Promise<WebSocket>

/** The token of each connection allows registering as a worker and nothing else. */
export function createWorkerConnector(url: string, { key, secret }: KeyPair, now: () => number): ConnectWorker {
  const endpoint = `${url.replace(/^http/, 'ws').replace(/\/+$/, '')}/agent`
  const hs256 = createHs256(secret)

  return async () => {
    const issuedAt = Math.floor(now() / 1000)
    const token = hs256.sign({ video: { agent: true }, iss: key, exp: issuedAt + TOKEN_SECONDS, nbf: issuedAt })
    const socket = new WebSocket(endpoint, {
      headers: { authorization: `Bearer ${token}` },
      handshakeTimeout: TIMEOUT_MS,
      maxPayload: MAX_MESSAGE_BYTES,
      perMessageDeflate: false,
    })
    await new Promise<void>((resolve, reject) => {
      socket.once('open', resolve)
      socket.once('unexpected-response', (request, { statusCode }) => {
        const message = `LiveKit refuses a worker’s connection (status ${statusCode}); /health may say why.`
        reject(unavailable(new LiveKitError('failed', message)))
        request.destroy()
      })
      // Stays: an error without a listener would end the process. Every error is followed by `close`.
      socket.on('error', ({ code }: NodeJS.ErrnoException) => {
        const known = code && /^[A-Z_0-9]{1,50}$/.test(code) ? ` (${code})` : ''
        reject(unavailable(new LiveKitError('unreachable', `LiveKit cannot be reached for a worker${known}.`)))
      })
    })
    return socket
  }
}
