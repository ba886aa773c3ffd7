import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import { RoomServiceClient } from 'livekit-server-sdk'
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import { apiAt } from '../e2e/api.ts'
import { freeTcpPort } from '../e2e/processes.ts'
import { type Service, service } from '../e2e/service.ts'
import type { Participant, Stack, StackOptions } from '../scenarios/stack.ts'
import { startSfu } from '../sfu.ts'
import { joinSfu } from '../sfu-client.ts'
import { sendWebhooks } from '../sfu-webhooks.ts'

/** The built service beside the fake SFU, for the tests of the enclosing `describe`. Its log is printed when one fails. */
export function useFakeStack({ webhooks = true, env = {} }: StackOptions = {}): () => Stack {
  let folder: string
  let behalf: Service | undefined
  let stack: Stack | undefined
  let participants: Participant[] = []

  beforeAll(async () => {
    folder = await mkdtemp(joinPath(tmpdir(), 'behalf-scenarios-'))
    const sfu = await startSfu()
    behalf = await service({ folder, port: await freeTcpPort(), livekitUrl: sfu.url, env })
    if (webhooks) sendWebhooks(sfu, `${behalf.url}/livekit/webhook`)
    stack = {
      livekit: sfu,
      service: behalf,
      api: apiAt(behalf),
      rooms: new RoomServiceClient(sfu.url, 'devkey', 'secret'),
      async join(token, options = {}) {
        const participant = joinSfu(sfu, token, options)
        participants.push(participant)
        return participant
      },
    }
    await behalf.start()
  })

  beforeEach(({ onTestFailed }) => {
    onTestFailed(() => console.log(behalf?.log().split('\n').slice(-60).join('\n')))
  })

  afterEach(async () => {
    await Promise.all(participants.map((participant) => participant.leave()))
    participants = []
  })

  afterAll(async () => {
    await behalf?.stop()
    await rm(folder, { recursive: true, force: true })
  })

  return () => {
    if (!stack) throw new Error('the stack is not up')
    return stack
  }
}
