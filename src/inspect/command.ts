import { parseArgs } from 'node:util'
import { readSigningKeys } from '../auth/keys.ts'
import { type Environment, oneLine, type Print, UsageError } from '../command-line.ts'
import { ConfigError, loadConfig } from '../config.ts'
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

/**
 * The command `npm run token`: the report goes to `out`, errors as one line to `err`; neither ever holds the token.
 * @returns the exit code
 */
export async function run(
  argv: string[],
  env: Environment,
  out: Print,
  err: Print,
  readStdin: () => Promise<string>,
): Promise<number> {
  try {
    const command = parse(argv)
    if (command === 'help') {
      out(HELP)
      return 0
    }
    const token = (command.token === '-' ? await readStdin() : command.token).trim().replace(/^Bearer\s+/i, '')
    if (token === '' || token.length > MAX_TOKEN_LENGTH) throw new UsageError('There is no token, or far too much.')
    const { config, secrets } = loadConfig(env)
    const opened = open(config.databaseUrl)
    try {
      const deps = { store: await storeOf(opened), publicUrl: config.publicUrl, secrets, now: Date.now }
      const report = await inspectToken(token, deps)
      out(command.json ? printable(JSON.stringify(report)) : reportText(report, Date.now()))
      return report.valid ? 0 : 1
    } finally {
      if (typeof opened !== 'string') await opened.close()
    }
  } catch (error) {
    err(oneLine(error))
    return error instanceof UsageError || error instanceof ConfigError ? 2 : 1
  }
}

function parse(args: string[]): { token: string; json: boolean } | 'help' {
  const { values, positionals } = readArguments(args)
  if (values.help) return 'help'
  const [command, token, ...rest] = positionals
  // What was typed is not repeated: it may be a token.
  if (command !== 'inspect') throw new UsageError('The command is inspect; --help shows how.')
  if (token === undefined || rest.length > 0) throw new UsageError('inspect takes one token, or - for stdin.')
  return { token, json: values.json ?? false }
}

function readArguments(args: string[]) {
  try {
    return parseArgs({
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
  return { keys: await readSigningKeys(opened.keys, Date.now()), agents: opened.agents }
}
