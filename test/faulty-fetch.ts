import type { Clock } from '../packages/client/src/retry.ts'
import type { Fetch } from '../packages/client/src/transport.ts'
import type { TestApp } from './support.ts'

/** A request as it left the client. */
export interface Sent {
  method: string
  path: string
  headers: Headers
  body: string
}

/** Gets in the way of a request; `reach` lets it through to the app. */
type Fault = (reach: () => Promise<Response>) => Response | Promise<Response>

/** The answer never arrives, but the service has done its work. */
export const lost: Fault = async (reach) => {
  await reach()
  throw new TypeError('fetch failed')
}

/** The request never arrives. */
export const unreachable: Fault = () => {
  throw new TypeError('fetch failed')
}

/** A fetch that ends in the app, records every request, and fails where the test says so. */
export function faultyFetch(app: TestApp['app']) {
  const sent: Sent[] = []
  const faults: Array<{ path: string; fault: Fault }> = []
  const fetch: Fetch = async (input, init) => {
    const request = new Request(input, init)
    const path = new URL(request.url).pathname
    const body = await request.clone().text()
    sent.push({ method: request.method, path, headers: request.headers, body })
    const index = faults.findIndex((planned) => planned.path === path)
    const [planned] = index < 0 ? [] : faults.splice(index, 1)
    const reach = async () => network.app.request(request)
    return planned ? planned.fault(reach) : reach()
  }
  const network = {
    /** Replaced when the service restarts. */
    app,
    fetch,
    sent,
    sentTo: (path: string) => sent.filter((request) => request.path === path),
    /** The next requests to that path meet these, one each. */
    plan: (path: string, ...planned: Fault[]) => faults.push(...planned.map((fault) => ({ path, fault }))),
    /** Nothing fails any more. */
    heal: () => faults.splice(0),
  }
  return network
}

/** Time by the app's clock, where waiting takes none: it moves the clock, and is remembered. */
export function quickClock({ now, advance }: TestApp['clock'], onWait: (count: number) => unknown = () => {}) {
  const waits: number[] = []
  const clock: Clock = {
    now,
    wait: async (ms, signal) => {
      waits.push(ms)
      advance(ms / 1000)
      await onWait(waits.length)
      signal?.throwIfAborted()
    },
  }
  return { clock, waits }
}

/** What kept a call from succeeding. */
export const failure = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    (answer) => {
      throw new Error(`It succeeded: ${JSON.stringify(answer)}`)
    },
    (error: unknown) => error,
  )
