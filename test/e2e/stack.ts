import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { dispose } from '@livekit/rtc-node'
import { RoomServiceClient } from 'livekit-server-sdk'
import { afterAll, afterEach, beforeAll, beforeEach, describe } from 'vitest'
import type * as shared from '../scenarios/stack.ts'
import { apiAt } from './api.ts'
import { liveKitServer } from './binaries.ts'
import { type LiveKitServer, liveKit } from './livekit-server.ts'
import { join as joinRoom, type RtcParticipant } from './participant.ts'
import { type Service, service, servicePort } from './service.ts'

/** A suite that needs a real livekit-server; global-setup.ts says when there is none. */
export const describeWithLiveKit = describe.skipIf(!liveKitServer())

export interface Stack extends shared.Stack {
  livekit: LiveKitServer
  service: Service
  join: (token: string, options?: shared.JoinOptions) => Promise<RtcParticipant>
}

export interface StackOptions extends shared.StackOptions {
  /** What `node` runs as the service; the built one if not given. */
  program?: string[]
}

/**
 * Both servers for the tests of the enclosing `describe`, the only one of its file: the media library cannot be started
 * twice in one process. Their logs are printed when a test fails.
 */
export function useStack({ webhooks = true, env = {}, program }: StackOptions = {}): () => Stack {
  let folder: string
  let stack: Stack | undefined
  let participants: RtcParticipant[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'behalf-e2e-'))
    const port = await servicePort()
    const webhookUrl = webhooks ? `http://127.0.0.1:${port}/livekit/webhook` : undefined
    const server = await liveKit({ folder, webhookUrl })
    const behalf = await service({ folder, port, livekitUrl: server.url, env, ...(program ? { program } : {}) })
    stack = {
      livekit: server,
      service: behalf,
      api: apiAt(behalf),
      rooms: new RoomServiceClient(server.url, 'devkey', 'secret'),
      async join(token, options) {
        const participant = await joinRoom(server.url, token, options)
        participants.push(participant)
        return participant
      },
    }
    await server.start()
    await behalf.start()
  })

  beforeEach(({ onTestFailed }) => {
    onTestFailed(() => {
      console.log(`--- the service's log\n${tail(stack?.service.log())}`)
      console.log(`--- livekit-server's log\n${tail(stack?.livekit.log())}`)
    })
  })

  afterEach(async () => {
    await Promise.all(participants.map((participant) => participant.leave()))
    participants = []
  })

  afterAll(async () => {
    await stack?.service.stop()
    await stack?.livekit.kill()
    await dispose()
    await rm(folder, { recursive: true, force: true })
  })

  return () => {
    if (!stack) throw new Error('the stack is not up')
    return stack
  }
}

const tail = (log = '') => log.split('\n').slice(-60).join('\n')
