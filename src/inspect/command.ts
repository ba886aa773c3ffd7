import { readSigningKeys } from '../auth/keys.ts'
import { createClock, SYSTEM_TIME } from '../clock.ts'
import { type Environment, oneLine, type Print, readArguments, runCommand, UsageError } from '../command-line.ts'
import { loadConfig } from '../config.ts'
import { openReadOnly, type ReadOnlyStore } from '../store/read-only.ts'
import { inspectToken } from './inspect.ts'
import { printable, reportText } from './report.ts'

const HELP = `What a token is, whom it is for, what it allows, whether it is expired, and whether the signature is ours.
Takes users' and agents' access tokens, LiveKit join tokens and webhook signatures. Changes nothing.

  npm run token -- inspect - [--json]       reads the token from stdin, so that it is in no shell history
  npm run token -- inspect <jwt> [--json]   npm prints its command line, and the token with it: use npm run --silent

The keys are those of the store that DATABASE_URL names and of LIVEKIT_API_KEY and LIVEKIT_API_SECRET.
Exit codes: 0 valid; 1 expired, foreign or otherwise not valid here; 2 a command or settings that cannot be understood.`

/** Far longer than any token that a request could carry. */
const MAX_TOKEN_LENGTH = 64 * 1024

interface Command {
  token: string
  json: boolean
}

/** The command `npm run token`; neither the report nor an error ever holds the token. @returns the exit code */
export const run = (argv: string[], env: Environment, out: Print, err: Print, readStdin: () => Promise<string>) =>
  runCommand(
    { help: HELP, parse, execute: (command, env, out) => inspect(command, env, out, readStdin) },
    argv,
    env,
    out,
    err,
  )

function parse(args: string[]): Command | 'help' {
  const { values, positionals } = readOptions(args)
  if (values.help) return 'help'
  const [command, token, ...rest] = positionals
  if (command !== 'inspect') throw new UsageError('The command is inspect; --help shows how.')
  if (token === undefined || rest.length > 0) throw new UsageError('inspect takes one token, or - for stdin.')
  return { token, json: values.json ?? false }
}

async function inspect(
  command: Command,
  env: Environment,
  out: Print,
  readStdin: () => Promise<string>,
): Promise<number> {
  const token = (command.token === '-' ? await readStdin() : command.token).trim().replace(/^Bearer\s+/i, '')
  if (token === '' || token.length > MAX_TOKEN_LENGTH) throw new UsageError('There is no token, or far too much.')
  const { config, secrets } = loadConfig(env)
  const opened = open(config.databaseUrl)
  try {
    const clock = typeof opened === 'string' ? createClock(SYSTEM_TIME) : opened.clock
    const deps = { store: await storeOf(opened), publicUrl: config.publicUrl, secrets, clock }
    const report = await inspectToken(token, deps)
    out(command.json ? printable(JSON.stringify(report)) : reportText(report, clock.now()))
    return report.valid ? 0 : 1
  } finally {
    if (typeof opened !== 'string') await opened.close()
  }
}

/** What was typed is not repeated: it may be a token. */
function readOptions(args: string[]) {
  try {
    return readArguments({
      args,
      allowPositionals: true,
      options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    })
  } catch {
    throw new UsageError('There is no such option; --help shows them.')
  }
}

const NO_STORE = 'There is no store at DATABASE_URL: our own signatures cannot be checked.'

function open(databaseUrl: string): ReadOnlyStore | string {
  try {
    return openReadOnly(databaseUrl) ?? NO_STORE
  } catch (error) {
    return `The store at DATABASE_URL cannot be read: ${oneLine(error)}.`
  }
}

async function storeOf(opened: ReadOnlyStore | string) {
  if (typeof opened === 'string') return opened
  return { keys: await readSigningKeys(opened.keys, opened.clock), agents: opened.agents }
}
