import { fileURLToPath } from 'node:url'
import { cli, defineAgent, llm, ServerOptions, voice } from '@livekit/agents'
import { agentClient, ProblemError } from 'behalf-client'
import { z } from 'zod'

// A voice agent with a tool that calls a guarded route for the user, the one of examples/your-route. Its models are LiveKit
// Inference's, or without keys those of examples/stub-models.ts.   node --import tsx tool.ts start

const { BEHALF_URL = 'http://localhost:8008', BEHALF_AGENT_ID = '', BEHALF_AGENT_SECRET = '' } = process.env
const behalf = agentClient({ url: BEHALF_URL, id: BEHALF_AGENT_ID, secret: BEHALF_AGENT_SECRET })

export default defineAgent({
  async entry(ctx) {
    const { userId = '', sessionId = '' } = ctx.job.attributes // written by the service
    const user = behalf.session({ userId, sessionId })

    const placeOrder = llm.tool({
      name: 'place_order',
      description: 'Places an order for the user.',
      parameters: z.object({ item: z.string().describe('What to order.') }),
      execute: async ({ item }, { abortSignal }) => {
        try {
          const order = await user.request<{ orderId: number }>('/agent/orders', { item }, { signal: abortSignal })
          return `Order ${order.orderId} is placed.`
        } catch (error) {
          if (!(error instanceof ProblemError)) throw error
          throw new llm.ToolError(error.detail) // such as: The user is not in the room now.
        }
      },
    })

    const session = new voice.AgentSession({
      stt: 'deepgram/nova-3',
      llm: 'openai/gpt-4.1-mini',
      tts: 'cartesia/sonic-3',
    })
    await session.start({
      agent: new voice.Agent({ instructions: 'You take orders.', tools: [placeOrder] }),
      room: ctx.room,
      inputOptions: { participantIdentity: userId }, // listen only to this user, even if others are in the room
    })
    await ctx.connect()
  },
})

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  cli.runApp(new ServerOptions({ agent: fileURLToPath(import.meta.url), agentName: BEHALF_AGENT_ID }))
}
