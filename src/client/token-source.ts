import type { z } from '@hono/zod-openapi'
import { type InferResponseType, parseResponse } from 'hono/client'
import type { TokenSource, TokenSourceFetchOptions } from 'livekit-client'
import type { TokenRequest } from '../tokens/schemas.ts'
import type { Api } from './transport.ts'

// What the schema gives, not what it takes: it takes anything and says later what is wrong.
export type JoinRequest = z.infer<typeof TokenRequest>
/** A join token, and the session it belongs to. */
export type JoinToken = InferResponseType<Api['token']['$post'], 201>

/** As much of livekit-client's `TokenSource` as is used: it comes from the caller, so that agents need not install it. */
export type CustomTokenSources = Pick<typeof TokenSource, 'custom'>

/**
 * A token source that livekit-client may cache from, but never past its use: `TokenSource.custom` would give out a valid
 * token again, whatever became of its session.
 */
export function joinTokenSource(sources: CustomTokenSources, api: Api): ReturnType<CustomTokenSources['custom']> {
  let lastSessionId: string | undefined

  const source = sources.custom(async (options) => {
    const { session_id, server_url, participant_token } = await parseResponse(
      api.token.$post({ json: joinRequest(options) }),
    )
    lastSessionId = session_id
    return { serverUrl: server_url, participantToken: participant_token }
  })

  // Only the service knows: a session is over by a hang-up, an agent, a limit or another user having signed in here.
  async function isUnused(sessionId: string): Promise<boolean> {
    try {
      const session = await parseResponse(api.sessions[':id'].$get({ param: { id: encodeURIComponent(sessionId) } }))
      return session.status === 'pending'
    } catch {
      return false
    }
  }

  // The instance keeps its class, which React's useSession looks at.
  const fetchCached = source.fetch.bind(source)
  source.fetch = async (options, force = false) =>
    fetchCached(options, force || lastSessionId === undefined || !(await isUnused(lastSessionId)))
  return source
}

/** livekit-client's words in those of its standard token endpoint, as `TokenSource.endpoint` would send them. */
function joinRequest(options: TokenSourceFetchOptions): JoinRequest {
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
