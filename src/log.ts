import { type DestinationStream, type Logger, pino, stdSerializers } from 'pino'
import type { Config } from './config.ts'
import { printable } from './http/text.ts'

/** Field names of secrets and personal data. The service logs none of them; this catches one that slips through. */
const REDACTED = new Set([
  'authorization',
  'password',
  'passwordhash',
  'email',
  'secret',
  'client_secret',
  'token',
  'access_token',
  'refresh_token',
  'participant_token',
  'params',
])
const MAX_DEPTH = 3
/**
 * A JWT, whole or cut: base64url of `{` followed by a quotation mark or white space, and a second part. The bound on the
 * first keeps the search linear.
 */
const TOKEN = /\be[wy][\w-]{8,512}\.[\w-]{8,}(\.[\w-]*)*/g

/** The service's log: one JSON object per line, with the time in UTC. */
export const createLog = (level: Config['logLevel'], destination: DestinationStream = standardOutput()): Logger =>
  pino(
    {
      level,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      // pino's own redaction takes 28 µs per line with as many paths, which is longer than most requests.
      formatters: { log: (line) => redact(line) },
      serializers: { err: serializeError },
      // Last, on the whole line without its line feed: any text may hold a token, such as another system's error message,
      // and valid JSON may hold characters that control a terminal.
      hooks: { streamWrite: (line) => `${printable(line.slice(0, -1).replace(TOKEN, '[token]'))}\n` },
    },
    destination,
  )

/** Writes the lines of one turn of the event loop together: the system call takes longer than the line. */
function standardOutput(): DestinationStream {
  const stdout = pino.destination({ sync: true })
  let lines = ''
  // On a full disk lines are lost, not the service.
  stdout.on('error', () => {})
  const flush = () => {
    const text = lines
    lines = ''
    try {
      if (text !== '') stdout.write(text)
    } catch {}
  }
  process.once('exit', flush)
  return {
    write(line) {
      if (lines === '') setImmediate(flush)
      lines += line
    },
  }
}

function redact(object: Record<string, unknown>, depth = MAX_DEPTH): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(object).map(([key, value]) => {
      if (REDACTED.has(key.toLowerCase())) return [key, '[redacted]']
      return [key, isPlainObject(value) ? (depth > 0 ? redact(value, depth - 1) : '[deep]') : value]
    }),
  )
}

const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype

/** Database errors repeat the statement's values, including e-mails and hashes, after this word. */
const VALUES = /\bparams: [\s\S]*?(?=\n\s+at |$)/g

function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { type, message, stack, aggregateErrors: _, ...more } = stdSerializers.err(error)
  const clean = (text: string) => text.replace(VALUES, 'params: [redacted]')
  return { ...redact(more), type, message: clean(message), stack: clean(stack) }
}

const { warn: WARN, error: ERROR } = pino.levels.values as { warn: number; error: number }
const NOISE = /^\/(health|docs\/|demo\/|livekit\/webhook)/

/** A line of the log for a person at a terminal; undefined for one that only machines need. */
export function readable(line: string): string | undefined {
  const { level, msg, method, path, status, milliseconds, code, err } = JSON.parse(line)
  if (typeof path === 'string') {
    if (status < 400 && (method === 'OPTIONS' || NOISE.test(path))) return undefined
    return printable(`${method} ${path} -> ${status}${code ? ` ${code}` : ''} (${milliseconds} ms)`)
  }
  // A stack is for what the service itself got wrong.
  const details = err && (level >= ERROR ? `\n${err.stack}` : `: ${err.message}`)
  const text = `${msg ?? ''}${details ?? ''}`
  if (text === '') return undefined
  return `${level >= ERROR ? 'error: ' : level >= WARN ? 'warning: ' : ''}${text}`.split('\n').map(printable).join('\n')
}

/** The log of a service that a person started at a terminal. */
export const toTerminal: DestinationStream = {
  write(line) {
    const text = readable(line)
    if (text !== undefined) process.stdout.write(`${text}\n`)
  },
}
