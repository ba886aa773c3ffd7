import { z } from 'zod'
import { createAgentAccounts } from '../../src/agent/accounts.ts'
import { SignedInResponse } from '../../src/auth/schemas.ts'
import { SCOPES } from '../../src/auth/scopes.ts'
import { agentToken } from '../agent-client.ts'
import { newDatabase } from '../database.ts'
import { startSfu } from '../sfu.ts'
import { makeApp, post, type TestApp, testClock } from '../support.ts'

const TokenAnswer = z.object({ session_id: z.string(), room_name: z.string(), participant_token: z.string() })
const ENV = { GUESTS_PER_ADDRESS_PER_HOUR: '1000000' }

/** The real app on a database that it can be restarted on while its clock keeps running. */
export async function restartable() {
  const databaseUrl = await newDatabase({ lasts: true })
  const sfu = await startSfu()
  const clock = testClock()
  const start = () => makeApp({ databaseUrl, sfu, clock, env: ENV })
  let t: TestApp = await start()
  const agent = await createAgentAccounts(t.store).create('tutor', SCOPES)

  async function stop(): Promise<void> {
    await t.background.idle()
    await t.store.close()
  }

  async function newUser() {
    const answer = SignedInResponse.parse(await (await post(t.app, '/auth/guest', {})).json())
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
