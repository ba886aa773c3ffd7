import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { cli, defineAgent, type JobContext, ServerOptions } from '@livekit/agents'
import { RoomEvent } from '@livekit/rtc-node'
import { z } from 'zod'
import { behalf } from './behalf.ts'

// A worker that acts on behalf of the user it was dispatched for. It has no speech models and needs no cloud keys: what
// it shows is where the pair comes from, and how to call back.   See the variables in `settings`, then: npm start

const Settings = z.object({
  BEHALF_URL: z.url().default('http://localhost:8008'),
  BEHALF_AGENT_ID: z.string().min(1),
  BEHALF_AGENT_SECRET: z.string().min(1),
  LIVEKIT_URL: z.string().default('ws://127.0.0.1:7880'),
  LIVEKIT_API_KEY: z.string().default('devkey'),
  LIVEKIT_API_SECRET: z.string().default('secret'),
  /** The worker's own health endpoint, on this machine only. */
  WORKER_PORT: z.coerce.number().int().default(8081),
  /** Seconds between two reports. */
  REPORT_SECONDS: z.coerce.number().positive().default(5),
})

/** The job's metadata, written by our server when it minted the join token: the one trustworthy source of the pair. */
const JobMetadata = z.object({
  userId: z.string(),
  sessionId: z.string(),
  room: z.string(),
  data: z.unknown().optional(),
})

const settings = () => Settings.parse(process.env)

async function work(ctx: JobContext): Promise<void> {
  const { BEHALF_URL, BEHALF_AGENT_ID, BEHALF_AGENT_SECRET, REPORT_SECONDS } = settings()
  const pair = JobMetadata.parse(JSON.parse(ctx.job.metadata))
  const say = (line: string) => console.log(`[${BEHALF_AGENT_ID} ${pair.sessionId}] ${line}`)
  say(`job ${ctx.job.id} for user ${pair.userId} in room ${pair.room}`)

  await ctx.connect()
  const over = once(ctx.room, RoomEvent.Disconnected)
  say('connected to the room')
  // A job starts when its room does: the user may still be on the way, and until then every callback is refused.
  const user = await ctx.waitForParticipant(pair.userId)
  say(`the user is here: ${user.identity}`)

  const api = behalf({ url: BEHALF_URL, agentId: BEHALF_AGENT_ID, agentSecret: BEHALF_AGENT_SECRET })
  await api.bearer()
  say('has a token of its own')
  for (let step = 1; ; step++) {
    const outcome = await api.progress(pair, { status: 'working', step, job: ctx.job.id }, say)
    say(`progress ${step}: ${outcome}`)
    if (outcome !== 'accepted') return ctx.shutdown(`session ${outcome}`)
    const next = await Promise.race([over.then(() => 'over'), delay(REPORT_SECONDS * 1000)])
    if (next === 'over') return say('the room is closed')
  }
}

export default defineAgent({ entry: work })

// Job processes import this file for the agent above; only the one that was started is the worker.
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
      // It hardly computes, so a busy machine is no reason to turn a job away.
      loadFunc: async () => 0,
    }),
  )
}
