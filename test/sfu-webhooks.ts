import { type Sfu, webhookEvent, webhookToken } from './sfu.ts'

/** LiveKit's development pair, which a service under test uses as well when it is given none. */
export const DEV_KEY = { key: 'devkey', secret: 'secret' }

/**
 * From now on the fake sends a signed webhook of everything that happens, as LiveKit does: those of one room one after
 * the other, rooms beside each other. One that does not arrive is lost; LiveKit would send it again for half a minute.
 */
export function sendWebhooks(sfu: Sfu, url: string): void {
  const lastOf = new Map<string, Promise<void>>()

  sfu.onEvent(({ event, ...about }) => {
    const body = JSON.stringify(webhookEvent(event, about))
    const before = lastOf.get(about.room.name) ?? Promise.resolve()
    lastOf.set(
      about.room.name,
      before.then(() => deliver(body)),
    )
  })

  async function deliver(body: string): Promise<void> {
    const Authorization = await webhookToken(body, { ...DEV_KEY, at: Date.now() })
    const headers = { Authorization, 'Content-Type': 'application/webhook+json' }
    await fetch(url, { method: 'POST', headers, body }).then(
      (answer) => answer.arrayBuffer(),
      () => undefined,
    )
  }
}
