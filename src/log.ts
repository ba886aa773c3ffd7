import { type DestinationStream, type Logger, pino, stdSerializers } from 'pino'
import type { Config } from './config.ts'

/** Names under which secrets and personal data would stand. None of them is ever logged: this is for the day one is. */
const REDACTED = [
  'authorization',
  'Authorization',
  'password',
  'passwordHash',
  'email',
  'secret',
  'client_secret',
  'token',
  'access_token',
  'refresh_token',
  'participant_token',
  'params',
]
const DEPTHS = ['', '*.', '*.*.']

/** The log of the service: one JSON object per line, with the time in UTC. */
export const createLog = (level: Config['logLevel'], destination?: DestinationStream): Logger =>
  pino(
    {
      level,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      redact: { paths: DEPTHS.flatMap((depth) => REDACTED.map((name) => `${depth}${name}`)), censor: '[redacted]' },
      serializers: { err: serializeError },
    },
    destination,
  )

/** Database errors repeat the values of the statement, e-mails and hashes among them, after this word. */
const VALUES = /\bparams: [\s\S]*?(?=\n\s+at |$)/g

function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { type, message, stack, ...more } = stdSerializers.err(error)
  const clean = (text: string) => text.replace(VALUES, 'params: [redacted]')
  return { ...more, type, message: clean(message), stack: clean(stack) }
}
