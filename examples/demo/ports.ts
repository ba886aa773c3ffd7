import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'

const HOST = '127.0.0.1'

/** The port if it is free, undefined if it is taken. 0 asks for any free one. */
export async function freePort(port: number, kind: 'tcp' | 'udp' = 'tcp'): Promise<number | undefined> {
  try {
    return kind === 'tcp' ? await tryTcp(port) : await tryUdp(port)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return undefined
    throw error
  }
}

async function tryTcp(port: number): Promise<number> {
  const server = createServer().listen(port, HOST)
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address !== null ? address.port : port
}

async function tryUdp(port: number): Promise<number> {
  const socket = createSocket('udp4').bind(port, HOST)
  await once(socket, 'listening')
  const address = socket.address()
  socket.close()
  return address.port
}
