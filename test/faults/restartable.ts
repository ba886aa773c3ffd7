import { z } from 'zod'
import { createAgentAccounts } from '../../src/agent/accounts.ts'
import { SignedInResponse } from '../../src/auth/schemas.ts'
import { SCOPES } from '../../src/auth/scopes.ts'
import { agentToken } from '../agent-client.ts'
import { newDatabase } from '../database.ts'
import { from } from '../from-address.ts'
import { startSfu } from '../sfu.ts'
import { makeApp, post, type TestApp, testClock } from '../support.ts'

const TokenAnswer = z.object({ session_id: z.string(), room_name: z.string(), participant_token: z.string() })

/** The real app on a database that it can be restarted on while its clock keeps running. */
export async function restartable() {
  const databaseUrl = await newDatabase({ lasts: true })
  const sfu = await startSfu()
  const clock = testClock()
  const start = () => makeApp({ databaseUrl, sfu, clock })
  let t: TestApp = await start()
  let users = 0
  const agent = await createAgentAccounts(t.store).create('tutor', SCOPES)

  async function stop(): Promise<void> {
    await t.background.idle()
    await t.store.close()
  }

  async function newUser() {
    users++
    // Each from an address of its own, since these are limited.
    const guest = await from(t, `10.0.${users >> 8}.${users & 255}`, '/auth/guest', {})
    const answer = SignedInResponse.parse(await guest.json())
    return { id: answer.user.id, bearer: answer.access_token }
  }

  return {
    sfu,
    clock,
    app: () => t,
    /** The step of the wall clock in the meantime, in seconds. */
    async restart(seconds = 0) {
      await stop()
      clock.step(seconds)
      t = await start()
    },
    close: stop,
    newUser,
    agentToken: () => agentToken(t.app, agent),
    async session(bearer: string, request: Record<string, unknown>) {
      const answer = TokenAnswer.parse(await (await post(t.app, '/token', request, bearer)).json())
      return { id: answer.session_id, room: answer.room_name, joinToken: answer.participant_token }
    },
  }
}

export type Restartable = Awaited<ReturnType<typeof restartable>>
