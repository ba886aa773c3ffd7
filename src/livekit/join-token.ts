import { SignJWT } from 'jose'
import type { KeyPair } from '../config.ts'
import { hmacKey } from './hmac-key.ts'
import type { NewDispatch } from './livekit.ts'

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
  /** Read by LiveKit only at the join that creates the room. */
  roomConfig?: {
    emptySeconds: number
    departureSeconds: number
    agent: NewDispatch | null
  }
}

export interface JoinToken {
  token: string
  /** The token's own `exp`, Unix seconds. */
  expiresAt: number
}

export type MintJoinToken = (request: JoinTokenRequest) => Promise<JoinToken>

/**
 * Mints LiveKit join tokens: one room, one identity, publish and subscribe; no admin grant, and no right to change its
 * own metadata or attributes. Claims as in LiveKit's `auth.ClaimGrants`; the SDK's AccessToken takes no clock and does
 * not return the expiry it chose.
 */
export function createJoinTokenMinter({ key, secret }: KeyPair, now: () => number): MintJoinToken {
  const signingKey = hmacKey(secret, 'sign')
  return async ({ identity, room, name, metadata, attributes, kind, roomConfig }) => {
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
    const claims = {
      name: name ?? undefined,
      metadata,
      attributes,
      kind,
      video,
      roomConfig: roomConfigClaim(roomConfig),
    }
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .setIssuer(key)
      .setSubject(identity)
      .setNotBefore(issuedAt)
      .setExpirationTime(expiresAt)
      .sign(await signingKey)
    return { token, expiresAt }
  }
}

/** livekit.RoomConfiguration as its JSON form; what is absent keeps LiveKit's default. */
function roomConfigClaim(config: JoinTokenRequest['roomConfig']) {
  if (!config) return undefined
  const { emptySeconds, departureSeconds, agent } = config
  return {
    emptyTimeout: emptySeconds,
    departureTimeout: departureSeconds,
    ...(agent ? { agents: [agent] } : {}),
  }
}
