import { notSignedIn, ProblemError } from './problem.ts'
import type { Send } from './transport.ts'
import type { Issued } from './wire.ts'

/** How long before its expiry a token is renewed, but no more than a half of its life. */
const AHEAD_SECONDS = 60

export interface AccessTokenDeps {
  /** Gets the next one. `isCurrent` turns false when it is not wanted any more. */
  issue: (isCurrent: () => boolean) => Promise<Issued>
  now: () => number
}

/** Holds one access token and renews it ahead of its expiry, once at a time however many ask. */
export function accessToken({ issue, now }: AccessTokenDeps) {
  let held: { token: string; renewAt: number } | undefined
  let renewing: Promise<string> | undefined
  let generation = 0

  /** Replaces the token, or forgets it; a renewal under way is then void. */
  function replace(issued?: Issued, askedAt = now()): void {
    generation++
    renewing = undefined
    if (!issued) {
      held = undefined
      return
    }
    const seconds = issued.expires_in - Math.min(AHEAD_SECONDS, issued.expires_in / 2)
    held = { token: issued.access_token, renewAt: askedAt + seconds * 1000 }
  }

  async function issueNext(): Promise<string> {
    const mine = generation
    const isCurrent = () => generation === mine
    const askedAt = now()
    const issued = await issue(isCurrent)
    if (!isCurrent()) throw notSignedIn()
    replace(issued, askedAt)
    return issued.access_token
  }

  function renew(): Promise<string> {
    const flight =
      renewing ??
      issueNext().finally(() => {
        if (renewing === flight) renewing = undefined
      })
    renewing = flight
    return flight
  }

  return {
    replace,
    /** A token that is good for a while. */
    current: (): Promise<string> => (held && held.renewAt > now() ? Promise.resolve(held.token) : renew()),
    /** One other than the token that was refused. */
    insteadOf: (refused: string): Promise<string> =>
      held && held.token !== refused ? Promise.resolve(held.token) : renew(),
  }
}

export type AccessToken = ReturnType<typeof accessToken>

/** Sends with the bearer token; one that the service refuses as invalid is renewed once. */
export function authorized(send: Send, accessToken: AccessToken): Send {
  return async (input, init) => {
    function withBearer(token: string) {
      const headers = new Headers(init?.headers)
      headers.set('Authorization', `Bearer ${token}`)
      return send(input, { ...init, headers })
    }
    const token = await unlessAborted(accessToken.current(), init?.signal)
    try {
      return await withBearer(token)
    } catch (error) {
      if (!(error instanceof ProblemError && error.code === 'invalid_token')) throw error
      return withBearer(await unlessAborted(accessToken.insteadOf(token), init?.signal))
    }
  }
}

/** The renewal is shared, so an aborted call stops waiting for it and leaves it running. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | null | undefined): Promise<T> {
  if (!signal) return work
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason)
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}
