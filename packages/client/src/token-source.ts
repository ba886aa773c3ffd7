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

/** A source of livekit-client that gives a token out again while it is valid. */
export interface CachingSource {
  fetch: (options: TokenSourceOptions, force?: boolean) => Promise<object>
}

/** As much of livekit-client's `TokenSource` as is used: it comes from the caller, so that agents need not install it. */
export interface CustomTokenSources<Source extends CachingSource> {
  custom: (fetch: (options: TokenSourceOptions) => Promise<Connection>) => Source
}

/**
 * A token source that livekit-client may cache from, but never past its use: `TokenSource.custom` would give out a valid
 * token again, whatever became of its session.
 */
export function joinTokenSource<Source extends CachingSource>(sources: CustomTokenSources<Source>, api: Api): Source {
  let lastSessionId: string | undefined

  const source = sources.custom(async (options) => {
    const joinToken = await api.call<JoinToken>('POST', '/token', { json: joinRequest(options) })
    lastSessionId = joinToken.session_id
    return { serverUrl: joinToken.server_url, participantToken: joinToken.participant_token }
  })

  // Only the service knows: a session is over by a hang-up, an agent, a limit or another user having signed in here.
  async function isUnused(sessionId: string): Promise<boolean> {
    try {
      const session = await api.call<Session>('GET', `/sessions/${encodeURIComponent(sessionId)}`)
      return session.status === 'pending'
    } catch {
      return false
    }
  }

  // The instance keeps its class, which React's useSession looks at.
  const cached: CachingSource = source
  const fetchCached = cached.fetch.bind(source)
  cached.fetch = async (options, force = false) =>
    fetchCached(options, force || lastSessionId === undefined || !(await isUnused(lastSessionId)))
  return source
}

/** livekit-client's words in those of its standard token endpoint, as `TokenSource.endpoint` would send them. */
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
