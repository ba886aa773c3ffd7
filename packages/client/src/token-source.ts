import type { Api } from './transport.ts'
import type { JoinRequest, JoinToken, Session } from './wire.ts'

/** livekit-client's `TokenSourceFetchOptions`. */
export interface TokenSourceOptions {
  roomName?: string
  participantName?: string
  participantIdentity?: string
  participantMetadata?: string
  participantAttributes?: Record<string, string>
  agentName?: string
  agentMetadata?: string
  deployment?: string
}

/** What livekit-client connects with. */
export interface Connection {
  serverUrl: string
  participantToken: string
}

/** A livekit-client token source that reuses a token while it is valid. */
export interface CachingSource {
  fetch: (options: TokenSourceOptions, force?: boolean) => Promise<object>
}

/** As much of livekit-client's `TokenSource` as is used: the caller passes it in, so that agents need not install it. */
export interface CustomTokenSources<Source extends CachingSource> {
  custom: (fetch: (options: TokenSourceOptions) => Promise<Connection>) => Source
}

/**
 * A token source that checks the session before a token is reused. `TokenSource.custom` would reuse any valid token, even
 * one whose session has ended.
 */
export function joinTokenSource<Source extends CachingSource>(sources: CustomTokenSources<Source>, api: Api): Source {
  let lastSessionId: string | undefined

  const source = sources.custom(async (options) => {
    const joinToken = await api.call<JoinToken>('POST', '/token', { json: joinRequest(options) })
    lastSessionId = joinToken.session_id
    return { serverUrl: joinToken.server_url, participantToken: joinToken.participant_token }
  })

  // Only the service knows whether the session is over: by a hang-up, an agent, a limit, or because another user signed in.
  async function isUnused(sessionId: string): Promise<boolean> {
    try {
      const session = await api.call<Session>('GET', `/sessions/${encodeURIComponent(sessionId)}`)
      return session.status === 'pending'
    } catch {
      return false
    }
  }

  // Keeps the instance's class, which React's useSession checks.
  const cached: CachingSource = source
  const fetchCached = cached.fetch.bind(source)
  cached.fetch = async (options, force = false) =>
    fetchCached(options, force || lastSessionId === undefined || !(await isUnused(lastSessionId)))
  return source
}

/** livekit-client's options as the standard token endpoint's fields, as `TokenSource.endpoint` would send them. */
function joinRequest(options: TokenSourceOptions): JoinRequest {
  const { agentName, agentMetadata, deployment } = options
  const agent = { agent_name: agentName, metadata: agentMetadata, deployment }
  const named = Object.values(agent).some((value) => value !== undefined)
  return {
    room_name: options.roomName,
    participant_name: options.participantName,
    participant_identity: options.participantIdentity,
    participant_metadata: options.participantMetadata,
    participant_attributes: options.participantAttributes,
    ...(named ? { room_config: { agents: [agent] } } : {}),
  }
}
