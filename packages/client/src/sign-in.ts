import { accessToken, authorized } from './access-token.ts'
import { notSignedIn, ProblemError, unreachable } from './problem.ts'
import { type Clock, isTransient, retrying } from './retry.ts'
import { api, type Send } from './transport.ts'
import type { Credentials, GuestDetails, PasswordChange, Registration, SignedIn, User } from './wire.ts'

/**
 * Keeps the refresh token between visits; `null` when there is none. It signs the user in: keep it where only your own
 * code can read it. Tabs may share one.
 * @example { get: () => localStorage.getItem('behalf'),
 *   set: (token) => token === null ? localStorage.removeItem('behalf') : localStorage.setItem('behalf', token) }
 */
export interface RefreshTokenStorage {
  get: () => string | null | Promise<string | null>
  set: (token: string | null) => void | Promise<void>
}

/** Lasts as long as the page or the process. */
export function memoryStorage(): RefreshTokenStorage {
  let held: string | null = null
  return {
    get: () => held,
    set: (token) => {
      held = token
    },
  }
}

/** For 10 s after a refresh the service returns the same child again: both attempts must fit in that. */
const REFRESH_PATIENCE_MS = 8_000
const REFRESH_ATTEMPT_MS = 4_000

const isSignedOut = (error: unknown) =>
  error instanceof ProblemError && (error.code === 'not_signed_in' || error.code === 'invalid_refresh_token')

export interface SignInDeps {
  url: string
  send: Send
  storage: RefreshTokenStorage
  clock: Clock
}

/** The signed-in user and its access token. */
export function signIn({ url, send, storage, clock }: SignInDeps) {
  const { call } = api(url, send)
  const access = accessToken({ issue: refresh, now: clock.now })
  const sendAsUser = authorized(send, access)
  const asUser = api(url, sendAsUser)

  async function refresh(isCurrent: () => boolean): Promise<SignedIn> {
    const token = await storage.get()
    if (token === null) throw notSignedIn()
    try {
      const answer = await retrying(() => exchange(token), {
        clock,
        patienceMs: (error) => (isTransient(error) ? REFRESH_PATIENCE_MS : 0),
      })
      if (!isCurrent()) throw notSignedIn()
      await storage.set(answer.refresh_token)
      return answer
    } catch (error) {
      if (!(error instanceof ProblemError && error.code === 'invalid_refresh_token' && isCurrent())) throw error
      // Another tab may have signed in again meanwhile.
      if ((await storage.get()) !== token) return refresh(isCurrent)
      await storage.set(null)
      throw error
    }
  }

  async function exchange(refresh_token: string): Promise<SignedIn> {
    const signal = AbortSignal.timeout(REFRESH_ATTEMPT_MS)
    try {
      return await call<SignedIn>('POST', '/auth/refresh', { json: { refresh_token }, signal })
    } catch (error) {
      throw signal.aborted ? unreachable(error) : error
    }
  }

  async function become(answering: Promise<SignedIn>): Promise<User> {
    const askedAt = clock.now()
    const answer = await answering
    access.replace(answer, askedAt)
    await storage.set(answer.refresh_token)
    return answer.user
  }

  /** As the guest who is signed in, if any; one whose sign-in has ended cannot be upgraded any more. */
  async function register(json: Registration): Promise<SignedIn> {
    try {
      return await asUser.call<SignedIn>('POST', '/auth/register', { json })
    } catch (error) {
      if (!isSignedOut(error)) throw error
      return call<SignedIn>('POST', '/auth/register', { json })
    }
  }

  return {
    send: sendAsUser,
    accessToken: access.current,
    register: (body: Registration) => become(register(body)),
    // The service refuses unknown fields; what is passed may be a whole form.
    login: ({ email, password }: Credentials) =>
      become(call<SignedIn>('POST', '/auth/login', { json: { email, password } })),
    guest: (body: GuestDetails = {}) => become(call<SignedIn>('POST', '/auth/guest', { json: body })),
    changePassword: (json: PasswordChange) => become(asUser.call<SignedIn>('POST', '/auth/password', { json })),
    logoutEverywhere: async (): Promise<void> => {
      await asUser.call('POST', '/auth/logout-all')
      access.replace()
      await storage.set(null)
    },
    logout: async (): Promise<void> => {
      const token = await storage.get()
      access.replace()
      await storage.set(null)
      if (token !== null) await call('POST', '/auth/logout', { json: { refresh_token: token } })
    },
  }
}
