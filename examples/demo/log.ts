import { z } from 'zod'

// One readable log line per event: the three programs write three formats.

const Request = z.object({
  method: z.string(),
  path: z.string(),
  status: z.number(),
  milliseconds: z.number(),
  code: z.string().optional(),
})
const Pino = z.looseObject({ level: z.number(), msg: z.string().optional() })
const WARN = 40

/** LiveKit's messages worth showing, besides errors: it also warns about every closed connection. */
const LIVEKIT_MESSAGES = ['starting LiveKit server', 'worker registered', 'participant active', 'participant closed']

/** The line in readable form; undefined if it is not worth showing. */
export function readable(line: string): string | undefined {
  if (/^[=\s]*$/.test(line)) return undefined
  const json = parse(line)
  if (json !== undefined) return shorten(ofPino(json))
  const [, level, , , message, details] = line.split('\t')
  return shorten(level && message ? livekitLine(level, message, parse(details ?? '')) : line)
}

/** The last digits suffice to tell ids apart. */
const shorten = (line: string | undefined) =>
  line?.replace(/\b(user|sess|room)_[0-9a-f]{20,}([0-9a-f]{4})\b/g, '$1_…$2')

function ofPino(json: object): string | undefined {
  const request = Request.safeParse(json).data
  if (request) {
    const { method, path, status, milliseconds, code } = request
    const isNoise = method === 'OPTIONS' || /^\/(health|demo\/|livekit\/webhook)/.test(path)
    return isNoise && status < 400
      ? undefined
      : `${method} ${path} -> ${status}${code ? ` ${code}` : ''} (${milliseconds} ms)`
  }
  const line = Pino.safeParse(json).data
  return line?.msg === undefined ? undefined : `${line.level >= WARN ? 'warning: ' : ''}${line.msg}`
}

function livekitLine(level: string, message: string, details: object = {}): string | undefined {
  const isError = level === 'ERROR'
  if (!isError && !LIVEKIT_MESSAGES.includes(message)) return undefined
  const { participant, agentName, error } = details as Record<string, unknown>
  const about = [participant, agentName, isError ? error : undefined].filter((value) => value !== undefined).join(', ')
  return `${isError ? 'error: ' : ''}${message}${about ? `: ${about}` : ''}`
}

function parse(text: string): object | undefined {
  if (!text.startsWith('{')) return undefined
  try {
    return JSON.parse(text) as object
  } catch {
    return undefined
  }
}
