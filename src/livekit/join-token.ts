import type { KeyPair } from '../config.ts'
import { createHs256 } from './hs256.ts'
import type { NewDispatch, RoomTimeouts } from './livekit.ts'

/** Seconds. Only the first connect depends on it: LiveKit hands connected clients fresh tokens. */
export const JOIN_TOKEN_SECONDS = 15 * 60

interface JoinTokenRequest {
  identity: string
  room: string
  name: string | null
  metadata?: string
  attributes?: Record<string, string>
  /** LiveKit counts participants of this kind separately, and they never keep a room open. */
  kind?: 'agent'
  /** livekit.RoomConfiguration. Read by LiveKit only at the join that creates the room. */
  roomConfig?: RoomTimeouts & { agents: NewDispatch[] | undefined }
}

export interface JoinToken {
  token: string
  /** The token's own `exp`, Unix seconds. */
  expiresAt: number
}

export type MintJoinToken = (request: JoinTokenRequest) => JoinToken

/**
 * Mints LiveKit join tokens: one room, one identity, publish and subscribe; no admin grant, and no right to change its
 * own metadata or attributes. The same bytes as by the SDK's AccessToken, which takes no clock, does not return the
 * expiry it chose, and imports the secret for every token.
 */
export function createJoinTokenMinter({ key, secret }: KeyPair, now: () => number): MintJoinToken {
  const hs256 = createHs256(secret)
  return ({ identity, room, name, metadata, attributes, kind, roomConfig }) => {
    const issuedAt = Math.floor(now() / 1000)
    const expiresAt = issuedAt + JOIN_TOKEN_SECONDS
    const video = {
      roomJoin: true,
      room,
      canPublish: true,
      canSubscribe: true,
      canPublishData: true,
      canUpdateOwnMetadata: false,
    }
    const token = hs256.sign({
      metadata,
      attributes,
      name: name ?? undefined,
      video,
      kind,
      roomConfig,
      iss: key,
      exp: expiresAt,
      nbf: issuedAt,
      sub: identity,
    })
    return { token, expiresAt }
  }
}
