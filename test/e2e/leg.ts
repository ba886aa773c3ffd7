import { once } from 'node:events'
import { connect as connectTo, createServer, type Socket } from 'node:net'

export interface SecondLeg {
  /** Joining here with a user's token makes the connection `<identity>#<name>`. */
  url: string
  close: () => void
}

/**
 * The door that a client opens for its second leg: LiveKit reads `publish` from the query of the join URL, and the SDK
 * at hand writes that query itself, so the parameter is added on the way.
 */
export async function secondLeg(liveKitUrl: string, name: string): Promise<SecondLeg> {
  const { hostname, port } = new URL(liveKitUrl)
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    client.once('data', (head) => {
      const request = head.toString('latin1')
      // Only the older of the two join URLs knows the parameter; the SDK falls back to it.
      if (request.startsWith('GET /rtc/v1')) {
        client.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        return
      }
      const upstream = connectTo(Number(port), hostname)
      upstream.write(request.replace(/^GET (\/rtc[^? ]*)\?/, `GET $1?publish=${name}&`), 'latin1')
      upstream.pipe(client).pipe(upstream)
      sockets.add(upstream)
      for (const socket of [client, upstream]) socket.on('error', () => socket.destroy())
    })
    sockets.add(client)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    url: `ws://127.0.0.1:${address.port}`,
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
