import { Hono } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { z } from 'zod'
import { agentClient, ProblemError } from '../../packages/client/src/index.ts'
import { startService } from '../../src/start.ts'

// The service for `npm run demo`, which holds the demo agent's secret too: so the page can let the agent call at any time.
// Never in the product, where an agent's secret is the agent's alone.

const { BEHALF_URL: url = '', BEHALF_AGENT_ID: id = '', BEHALF_AGENT_SECRET: secret = '' } = process.env
const agent = agentClient({ url, id, secret, notLivePatienceMs: 0, unavailablePatienceMs: 0 })

// The prefix, because a session `..` would lead to another route.
const Call = z.object({ userId: z.string(), sessionId: z.string().startsWith('sess_') })
const NOW = { message: 'Tried again, as you asked' }

const demo = new Hono().post('/demo/agent-call', async (c) => {
  const { data: call } = Call.safeParse(await c.req.json().catch(() => undefined))
  if (!call) throw new HTTPException(422, { message: 'Send a userId and a sessionId.' })
  const { userId, sessionId } = call
  // Only for one's own session; with which user's id is what the guard decides.
  const headers = { Authorization: c.req.header('Authorization') ?? '' }
  const session = await fetch(`${url}/sessions/${encodeURIComponent(sessionId)}`, { headers })
  if (!session.ok) return session
  try {
    await agent.progress({ userId, sessionId }, NOW)
    return c.json({ status: 201 })
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error
    const { status, code, detail } = error
    return c.json({ status, code, detail })
  }
})

startService({ extend: ({ app }) => void app.route('/', demo) })
