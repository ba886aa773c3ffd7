import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { cli, defineAgent, type JobContext, ServerOptions } from '@livekit/agents'
import { RoomEvent } from '@livekit/rtc-node'
import { agentClient, ProblemError } from 'behalf-client'
import { z } from 'zod'
import { listenTo, publishTone } from './audio.ts'

// A worker that acts on behalf of the user it was dispatched for. It has no speech models and needs no cloud keys: it
// counts what it hears, answers with a tone and reports progress.   See the variables in `settings`, then: npm start

const ACCOUNT =
  'is not set: take the lines that the first `npm start` of the service printed, or run `npm run agent -- create my-agent` there'
const Settings = z.object({
  BEHALF_URL: z.url().default('http://localhost:8008'),
  BEHALF_AGENT_ID: z.string(ACCOUNT).min(1, ACCOUNT),
  BEHALF_AGENT_SECRET: z.string(ACCOUNT).min(1, ACCOUNT),
  LIVEKIT_URL: z.string().default('ws://127.0.0.1:7880'),
  LIVEKIT_API_KEY: z.string().default('devkey'),
  LIVEKIT_API_SECRET: z.string().default('secret'),
  /** The worker's own health endpoint, on this machine only. */
  WORKER_PORT: z.coerce.number().int().default(8081),
  /** Seconds between two reports. */
  REPORT_SECONDS: z.coerce.number().positive().default(1),
  /** How long a user who left may take to come back: a reload, a lost network. */
  PATIENCE_SECONDS: z.coerce.number().positive().default(15),
})

/** How long the service may be unavailable: a restart, or a rate limit's minute. */
const UNAVAILABLE_MS = 90_000

/** The job's attributes, written by the service when it minted the join token: the only trustworthy source of the pair. */
const Pair = z.object({ userId: z.string(), sessionId: z.string() })

function settings() {
  const { data, error } = Settings.safeParse(process.env)
  if (data) return data
  console.error(error.issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('\n'))
  process.exit(2)
}

async function work(ctx: JobContext): Promise<void> {
  const { BEHALF_AGENT_ID, REPORT_SECONDS, ...env } = settings()
  const { userId, sessionId } = Pair.parse(ctx.job.attributes)
  const say = (line: string) => console.log(`[${BEHALF_AGENT_ID} ${sessionId}] ${line}`)
  say(`job ${ctx.job.id} for user ${userId} in room ${ctx.job.room?.name}`)

  const ears = listenTo(ctx.room, userId)
  let wake = () => {}
  ctx.room.once(RoomEvent.Disconnected, () => wake())
  ctx.room.on(RoomEvent.ParticipantDisconnected, ({ identity }) => {
    if (identity === userId) wake()
  })
  await ctx.connect()
  // A job starts when its room does: the user may still be on the way, and until then every callback is refused.
  const user = await ctx.waitForParticipant(userId)
  say(`the user is here: ${user.identity}`)

  // The agent's own credentials, never the user's; every call is checked against who is in the room.
  const agent = agentClient({
    url: env.BEHALF_URL,
    id: BEHALF_AGENT_ID,
    secret: env.BEHALF_AGENT_SECRET,
    notLivePatienceMs: env.PATIENCE_SECONDS * 1000,
    unavailablePatienceMs: UNAVAILABLE_MS,
  })
  const session = agent.session({ userId, sessionId })
  let accepted = 0
  try {
    const context = await session.context()
    say(`hello, ${context.user.name ?? 'guest'}`)
    const answer = await publishTone(ctx.room)
    // As LiveKit's AgentSession does, for frontends to show; a closed room needs no state.
    const showState = (state: string) =>
      ctx.room.localParticipant?.setAttributes({ 'lk.agent.state': state }).catch(() => {})
    void showState('listening')
    for (let step = 1, before = 0; ; step++) {
      const heard = ears.seconds()
      const spoke = heard > before
      before = heard
      const message = `Heard you for ${heard.toFixed(1)} s`
      await session.progress({ status: 'working', message, heard, step, job: ctx.job.id })
      accepted = step
      say(`progress ${step}: accepted, heard ${heard.toFixed(1)} s`)
      // Reports early when the user leaves, to learn from the answer what that means.
      const woken = new Promise<void>((resolve) => {
        wake = resolve
      })
      await Promise.race([woken, delay(REPORT_SECONDS * 1000)])
      // Greets the user, then answers whenever the user falls silent.
      if (step > 1 && !(spoke && ears.seconds() === heard)) continue
      void showState('speaking')
      await answer()
      void showState('listening')
    }
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error
    say(
      `refused: ${error.status} ${error.code}: ${error.detail} Stopping after ${accepted} reports, heard ${ears.seconds().toFixed(1)} s`,
    )
    ctx.shutdown('no longer acting for this user')
  }
}

export default defineAgent({ entry: work })

// Job processes import this file for the agent above; only the started process is the worker.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { BEHALF_AGENT_ID, LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET, WORKER_PORT } = settings()
  cli.runApp(
    new ServerOptions({
      agent: fileURLToPath(import.meta.url),
      // The agent's id is its LiveKit agent_name too: a client names it, and only this worker gets the job.
      agentName: BEHALF_AGENT_ID,
      wsURL: LIVEKIT_URL,
      apiKey: LIVEKIT_API_KEY,
      apiSecret: LIVEKIT_API_SECRET,
      host: '127.0.0.1',
      port: WORKER_PORT,
      numIdleProcesses: 1,
      // This worker needs little CPU, so it takes jobs even on a busy machine.
      loadFunc: async () => 0,
    }),
  )
}
