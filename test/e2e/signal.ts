import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'

/** Joins livekit-server and never brings its media up; the returned function drops the connection. */
export async function joinSignalOnly(liveKitUrl: string, token: string): Promise<() => void> {
  const { port, hostname, host } = new URL(liveKitUrl)
  const socket = connect(Number(port), hostname)
  socket.write(
    [
      `GET /rtc?access_token=${token}&protocol=15 HTTP/1.1`,
      `Host: ${host}`,
      'Upgrade: websocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Version: 13',
      `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
      '\r\n',
    ].join('\r\n'),
  )
  const [head] = await once(socket, 'data')
  if (!String(head).startsWith('HTTP/1.1 101')) throw new Error(`No WebSocket: ${head}`)
  return () => void socket.destroy()
}
