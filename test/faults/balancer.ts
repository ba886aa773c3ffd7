import { createServer, type Socket, connect as tcpConnect } from 'node:net'

/** A backend: the URL that it is reached at, and whether connections may go there. */
interface Backend {
  url: string
  isReady: boolean
}

/** How often each backend is asked whether it is ready, as load balancers do. */
const LOOK_MS = 100

/**
 * A plain TCP balancer: each connection goes to the next backend whose `/health/ready` says yes, or, if that one refuses it,
 * to the one after it. It knows nothing of HTTP, so a connection stays where it is.
 */
export async function balancer(urls: readonly string[]) {
  const backends: Backend[] = urls.map((url) => ({ url, isReady: true }))
  const open = new Set<Socket>()
  let turn = 0

  function carry(client: Socket, attempts: number): void {
    const ready = backends.filter(({ isReady }) => isReady)
    const { url = '' } = (ready.length > 0 ? ready : backends)[turn++ % (ready.length || backends.length)] ?? {}
    const { hostname, port } = new URL(url)
    const backend = tcpConnect(Number(port), hostname)
    open.add(backend)
    let isConnected = false
    backend.once('connect', () => {
      isConnected = true
      client.pipe(backend).pipe(client)
    })
    backend.once('close', () => {
      open.delete(backend)
      if (!isConnected && attempts > 1) carry(client, attempts - 1)
      else client.destroy()
    })
    backend.on('error', () => {})
    client.once('close', () => backend.destroy())
  }

  const server = createServer((client) => {
    open.add(client)
    client.on('error', () => {}).once('close', () => open.delete(client))
    carry(client, backends.length)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  server.unref()
  const looking = setInterval(() => {
    for (const backend of backends) {
      fetch(`${backend.url}/health/ready`, { signal: AbortSignal.timeout(1000) }).then(
        async (answer) => {
          await answer.arrayBuffer()
          backend.isReady = answer.ok
        },
        () => {
          backend.isReady = false
        },
      )
    }
  }, LOOK_MS)
  const address = server.address()
  return {
    url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
    close() {
      clearInterval(looking)
      server.close()
      for (const socket of open) socket.destroy()
    },
  }
}
