import { type EventsOptions, sessionEvents } from './events.ts'
import { type Clock, isTransient, retrying, systemClock } from './retry.ts'
import { memoryStorage, type RefreshTokenStorage, signIn } from './sign-in.ts'
import { type CachingSource, type CustomTokenSources, joinTokenSource } from './token-source.ts'
import { api as apiOf, type Fetch, transport } from './transport.ts'
import type { JoinRequest, JoinToken, Me, Session, SessionPage, SessionQuery } from './wire.ts'

export interface UserClientOptions {
  /** Where the service is, such as `https://api.example.com`. */
  url: string
  /** Default: the global one. */
  fetch?: Fetch
  /** Where the refresh token is kept. Default: in memory, which a reload clears. */
  storage?: RefreshTokenStorage
  clock?: Clock
}

export interface CallOptions {
  signal?: AbortSignal
}

/** How long a call is retried while the service is unavailable: enough for a restart of one of its instances. */
const PATIENCE_MS = 2_000

/**
 * The frontend's client. Every method rejects with a `ProblemError`; `not_signed_in` and
 * `invalid_refresh_token` mean that the user must sign in; other errors leave the sign-in unchanged.
 * Calls other than signing in and out are retried for up to 2 s while the service is unavailable.
 * @example
 * const client = userClient({ url: 'https://api.example.com' })
 * await client.guest()
 * const tokens = client.tokenSource(TokenSource)
 */
export function userClient({ url, fetch, storage = memoryStorage(), clock = systemClock }: UserClientOptions) {
  const user = signIn({ url, send: transport(fetch), storage, clock })
  // A retried token request can leave a session behind that nobody joins. It expires.
  const api = apiOf(url, (input, init) =>
    retrying(() => user.send(input, init), {
      clock,
      signal: init?.signal,
      patienceMs: (error) => (isTransient(error) ? PATIENCE_MS : 0),
    }),
  )
  const session = (id: string) => `/sessions/${encodeURIComponent(id)}`

  return {
    /** Creates an account and signs in; upgrades a signed-in guest, who keeps id and sessions. */
    register: user.register,
    /** Signs in with e-mail and password. */
    login: user.login,
    /** Signs in as a new guest. */
    guest: user.guest,
    /**
     * Forgets the user here, then signs out at the service, which ends the sessions of this sign-in; rejects if the
     * service could not be reached.
     */
    logout: user.logout,
    /** Ends all sign-ins and sessions of the user, on this device and others. */
    logoutEverywhere: user.logoutEverywhere,
    /** Ends all other sign-ins and their sessions; this one continues. */
    changePassword: user.changePassword,
    /** Who is signed in. */
    me: ({ signal }: CallOptions = {}) => api.call<Me>('GET', '/auth/me', { signal }),
    /** A user access token that stays valid for a while, for your own routes and for `TokenSource.endpoint`. */
    accessToken: user.accessToken,
    /** Requests a join token. With `session_id`, for an unfinished session: after a reload, or on a second screen. */
    joinToken: (request: JoinRequest = {}, { signal }: CallOptions = {}) =>
      api.call<JoinToken>('POST', '/token', { json: request, signal }),
    /**
     * Join tokens for livekit-client. A token is reused only while its session waits for its first join (React's
     * `useSession` fetches on mount and again to connect): after a call, every redial is a new session in a new room.
     *
     * A plain `TokenSource.endpoint` would reuse a valid token; there, redial with `source.fetch(options, true)`.
     * @example
     * import { Room, TokenSource } from 'livekit-client'
     * const tokens = client.tokenSource(TokenSource)
     * const { serverUrl, participantToken } = await tokens.fetch({ agentName: 'tutor' })
     * await room.connect(serverUrl, participantToken)
     * client.events(room.localParticipant.attributes.sessionId)
     */
    tokenSource: <Source extends CachingSource>(TokenSource: CustomTokenSources<Source>) =>
      joinTokenSource(TokenSource, api),
    sessions: {
      /** The user's sessions, newest first; pass a page's `before` to get the next one. */
      list: (query: SessionQuery = {}, { signal }: CallOptions = {}) =>
        api.call<SessionPage>('GET', '/sessions', { query, signal }),
      get: (id: string, { signal }: CallOptions = {}) => api.call<Session>('GET', session(id), { signal }),
      /** Ends it for good and removes its participant from LiveKit. */
      end: (id: string, { signal }: CallOptions = {}) => api.call<Session>('DELETE', session(id), { signal }),
    },
    /**
     * What happens in a session, as it happens, each event once and in order; finishes when the session has ended.
     * Survives lost connections, restarts and expired tokens.
     * @example for await (const { type, data } of client.events(sessionId)) show(type, data)
     */
    events: (sessionId: string, options: EventsOptions = {}) =>
      sessionEvents({ api: apiOf(url, user.send), clock }, sessionId, options),
  }
}

export type UserClient = ReturnType<typeof userClient>
