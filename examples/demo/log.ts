import { readable as serviceLine } from '../../src/log.ts'

// One readable log line per event: the three programs write three formats.

/** LiveKit's messages worth showing, besides errors: it also warns about every closed connection. */
const LIVEKIT_MESSAGES = ['starting LiveKit server', 'worker registered', 'participant active', 'participant closed']

/** The line in readable form; undefined if it is not worth showing. */
export function readable(line: string): string | undefined {
  if (/^[=\s]*$/.test(line)) return undefined
  if (parse(line) !== undefined) return shorten(serviceLine(line))
  const [, level, , , message, details] = line.split('\t')
  return shorten(level && message ? livekitLine(level, message, parse(details ?? '')) : line)
}

/** The last digits suffice to tell ids apart. */
const shorten = (line: string | undefined) =>
  line?.replace(/\b(user|sess|room)_[0-9a-f]{20,}([0-9a-f]{4})\b/g, '$1_…$2')

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
