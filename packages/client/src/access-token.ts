import { notSignedIn, ProblemError } from './problem.ts'
import type { Send } from './transport.ts'
import type { Issued } from './wire.ts'

/** A token is renewed this long before it expires, but not before half of its lifetime. */
const AHEAD_SECONDS = 60

export interface AccessTokenDeps {
  /** Requests the next token. `isCurrent` returns false once the result is no longer wanted. */
  issue: (isCurrent: () => boolean) => Promise<Issued>
  now: () => number
}

/** Holds one access token and renews it before it expires; concurrent callers share one renewal. */
export function accessToken({ issue, now }: AccessTokenDeps) {
  let held: { token: string; renewAt: number } | undefined
  let renewing: Promise<string> | undefined
  let generation = 0

  /** Replaces the token, or forgets it; a pending renewal is then discarded. */
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
    /** A token that stays valid for a while. */
    current: (): Promise<string> => (held && held.renewAt > now() ? Promise.resolve(held.token) : renew()),
    /** A token other than the one that was refused. */
    insteadOf: (refused: string): Promise<string> =>
      held && held.token !== refused ? Promise.resolve(held.token) : renew(),
  }
}

export type AccessToken = ReturnType<typeof accessToken>

/** Sends with the bearer token; if the service refuses it as invalid, renews it once. */
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
