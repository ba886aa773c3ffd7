import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'
import { type WebSocket, WebSocketServer } from 'ws'
import { z } from 'zod'

// Models for the example agents, so that they need no keys: it hears "A tea, please." whenever somebody stops making a
// sound, hands the user's words to the agent's first tool, repeats what the tool answers, and speaks with a tone. It has as
// much of LiveKit Inference's API as the SDKs need.
// node --import tsx examples/stub-models.ts   and for the agent: LIVEKIT_INFERENCE_URL=http://127.0.0.1:8010

const PORT = Number(process.env.STUB_MODELS_PORT ?? 8010)
const WORDS = 'A tea, please.'
/** Of 32767: anything quieter counts as silence. */
const LOUD = 100
const SOUND_SECONDS = 0.2
const SILENCE_SECONDS = 0.5

const Chat = z.object({
  messages: z.array(z.object({ role: z.string(), content: z.unknown().optional() })).min(1),
  tools: z.array(
    z.object({
      function: z.object({
        name: z.string(),
        parameters: z.object({ properties: z.record(z.string(), z.unknown()) }),
      }),
    }),
  ),
})
const Parts = z.array(z.object({ text: z.string() }))
/** What the SDKs send to hear and to speak. */
const Message = z.looseObject({
  type: z.string(),
  audio: z.string().default(''),
  sample_rate: z.coerce.number().optional(),
  settings: z.looseObject({ sample_rate: z.coerce.number().optional() }).optional(),
})

const text = (content: unknown): string =>
  typeof content === 'string'
    ? content
    : Parts.parse(content)
        .map((part) => part.text)
        .join(' ')

function reply({ messages, tools: [tool] }: z.infer<typeof Chat>) {
  const last = messages.at(-1)
  if (last?.role !== 'user' || !tool) return { delta: { content: text(last?.content) }, finish_reason: 'stop' }
  const { name, parameters } = tool.function
  const [argument = ''] = Object.keys(parameters.properties)
  const call = { name, arguments: JSON.stringify({ [argument]: text(last.content) }) }
  const delta = { tool_calls: [{ index: 0, id: `call_${randomUUID()}`, type: 'function', function: call }] }
  return { delta, finish_reason: 'tool_calls' }
}

const chunk = (choice: object) => {
  const fields = { id: 'stub', object: 'chat.completion.chunk', created: 0, model: 'stub' }
  return `data: ${JSON.stringify({ ...fields, choices: [{ index: 0, ...choice }] })}\n\n`
}

function messagesOf(socket: WebSocket, answer: (message: z.infer<typeof Message>, sampleRate: number) => object[]) {
  const session_id = randomUUID()
  let sampleRate = 16_000
  socket.on('message', (data) => {
    const message = Message.parse(JSON.parse(String(data)))
    sampleRate = message.sample_rate ?? message.settings?.sample_rate ?? sampleRate
    const created = message.type === 'session.create' ? [{ type: 'session.created' }] : []
    for (const said of [...created, ...answer(message, sampleRate)])
      socket.send(JSON.stringify({ session_id, ...said }))
  })
}

function hear(socket: WebSocket): void {
  let sound = 0
  let silence = 0
  messagesOf(socket, ({ type, audio }, sampleRate) => {
    if (type === 'session.close') return [{ type: 'session.closed' }]
    const bytes = Buffer.from(audio, 'base64')
    const samples = Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readInt16LE(2 * i))
    const seconds = samples.length / sampleRate
    if (samples.some((sample) => Math.abs(sample) > LOUD)) {
      sound += seconds
      silence = 0
    } else silence += seconds
    if (sound < SOUND_SECONDS || silence < SILENCE_SECONDS) return []
    sound = 0
    return [{ type: 'final_transcript', transcript: WORDS, language: 'en', start: 0, duration: 1, confidence: 1 }]
  })
}

function speak(socket: WebSocket): void {
  messagesOf(socket, ({ type }, sampleRate) => {
    if (type !== 'session.flush') return []
    const wave = Int16Array.from(
      { length: sampleRate / 2 },
      (_, i) => 3000 * Math.sin((2 * Math.PI * 660 * i) / sampleRate),
    )
    return [{ type: 'output_audio', audio: Buffer.from(wave.buffer).toString('base64') }, { type: 'done' }]
  })
}

const server = createServer(async (request, response) => {
  if (request.method !== 'POST') {
    response.end('{"object":"list","data":[]}') // what the SDKs ask for to warm up
    return
  }
  const { delta, finish_reason } = reply(Chat.parse(await json(request)))
  response.setHeader('Content-Type', 'text/event-stream')
  response.write(chunk({ delta: { role: 'assistant', ...delta }, finish_reason: null }))
  response.end(`${chunk({ delta: {}, finish_reason })}data: [DONE]\n\n`)
})

const sockets = new WebSocketServer({ noServer: true })
const models: Record<string, (socket: WebSocket) => void> = { '/stt': hear, '/tts': speak }
server.on('upgrade', (request, socket, head) => {
  const model = models[(request.url ?? '').replace(/\?.*/, '')]
  if (model) sockets.handleUpgrade(request, socket, head, model)
  else socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n')
})

server.listen(PORT, '127.0.0.1', () => console.log(`The stub models are at http://127.0.0.1:${PORT}`))
