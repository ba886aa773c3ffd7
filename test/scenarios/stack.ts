import type { RoomServiceClient } from 'livekit-server-sdk'
import type { Api } from '../e2e/api.ts'

/** A participant as its own client knows it, and what it knows of others. */
export interface Participant {
  identity: string
  sid: string
  /** livekit.DisconnectReason; undefined while it is connected. */
  disconnected: () => string | undefined
  whenDisconnected: Promise<string>
  /** The other one of this identity, once it is seen. */
  sees: (identity: string) => Promise<Seen>
  leave: () => Promise<void>
}

export interface Seen {
  identity: string
  metadata: string
  attributes: Record<string, string>
}

export interface JoinOptions {
  /** Publishes a tone as microphone, where there is media; default true. */
  audio?: boolean
  /** Joins as the publish-only second leg `<identity>#<publish>`. */
  publish?: string
}

/** What every scenario needs: the built service as its own process, and a LiveKit, be it the real one or the fake. */
export interface Stack {
  api: Api
  service: {
    /** Resolves when it says that it is ready. */
    start: () => Promise<void>
    stop: (signal?: NodeJS.Signals) => Promise<void>
  }
  livekit: {
    start: () => Promise<void>
    /** At once, as a crash would. */
    kill: () => Promise<void>
  }
  /** LiveKit's own view, with the server's key. */
  rooms: RoomServiceClient
  /** Joins with the token; participants still connected after the test are disconnected. */
  join: (token: string, options?: JoinOptions) => Promise<Participant>
}

export interface StackOptions {
  webhooks?: boolean
  /** Settings of the service. */
  env?: Record<string, string>
}

/** Both servers for the tests of the enclosing `describe`. */
export type UseStack = (options?: StackOptions) => () => Stack
