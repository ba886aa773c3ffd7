import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { agentAccounts } from '../../src/agents/accounts.ts'
import { SCOPES } from '../../src/agents/agent.ts'
import { SignedInAnswer } from '../../src/auth/schemas.ts'
import { agentToken } from '../agent-client.ts'
import { startSfu } from '../sfu.ts'
import { makeApp, post, type TestApp, testClock } from '../support.ts'

const TokenAnswer = z.object({ session_id: z.string(), room_name: z.string(), participant_token: z.string() })
const ENV = { GUESTS_PER_ADDRESS_PER_HOUR: '1000000' }

/** The real app on a SQLite file, which can be started again on that file while its clock goes on. */
export async function restartable() {
  // In memory where there is such a place: that a write outlives a crash is crash.test.ts's to show.
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'behalf-history-'))
  const databaseUrl = `file:${join(folder, 'behalf.db')}`
  const sfu = await startSfu()
  const clock = testClock()
  const start = () => makeApp({ databaseUrl, sfu, clock, env: ENV })
  let t: TestApp = await start()
  const agent = await agentAccounts({ agents: t.store.agents, now: clock.now }).create('tutor', SCOPES)

  async function stop(): Promise<void> {
    await t.background.idle()
    await t.store.close()
  }

  async function newPeople() {
    const answer = SignedInAnswer.parse(await (await post(t.app, '/auth/guest', {})).json())
    const user = { id: answer.user.id, bearer: answer.access_token }
    return { user, agent: await agentToken(t.app, agent) }
  }
  let people = { since: clock.now(), ...(await newPeople()) }

  return {
    sfu,
    clock,
    app: () => t,
    async restart() {
      await stop()
      t = await start()
    },
    async close() {
      await stop()
      rmSync(folder, { recursive: true, force: true })
    },
    /** A user and the agent's bearer, with tokens that have time left: the same ones until they grow old. */
    async people() {
      if (clock.now() - people.since > 2 * 60_000) people = { since: clock.now(), ...(await newPeople()) }
      return people
    },
    async session(bearer: string, request: Record<string, unknown>) {
      const answer = TokenAnswer.parse(await (await post(t.app, '/token', request, bearer)).json())
      return { id: answer.session_id, room: answer.room_name, joinToken: answer.participant_token }
    },
  }
}

export type Restartable = Awaited<ReturnType<typeof restartable>>
