import { readSigningKeys } from '../auth/keys.ts'
import { createClock, SYSTEM_TIME } from '../clock.ts'
import { loadConfig } from '../config.ts'
import { openReadOnly } from '../store/sqlite/read-only.ts'
import { type Environment, oneLine, type Print, readArguments, runCommand, UsageError } from './command-line.ts'
import { inspectToken } from './token-inspect.ts'
import { printable, reportText } from './token-report.ts'

const HELP = `What a token is, whom it is for, what it allows, whether it is expired, and whether the signature is ours.
Takes users' and agents' access tokens, LiveKit join tokens and webhook signatures. Changes nothing.

  npm run token -- inspect - [--json]       reads the token from stdin, so that it is in no shell history
  npm run token -- inspect <jwt> [--json]   npm prints its command line, and the token with it: use npm run --silent

The keys are those of the store that DATABASE_URL names and of LIVEKIT_API_KEY and LIVEKIT_API_SECRET.
Exit codes: 0 valid; 1 expired, foreign or otherwise not valid here; 2 a command or settings that cannot be understood.`

/** Far longer than any token that a request could carry. */
const MAX_TOKEN_LENGTH = 64 * 1024

/** The command `npm run token`; neither the report nor an error ever holds the token. @returns the exit code */
export function run(argv: string[], env: Environment, out: Print, err: Print, readStdin: () => Promise<string>) {
  async function execute({ given, json }: { given: string; json: boolean }): Promise<number> {
    const token = (given === '-' ? await readStdin() : given).trim().replace(/^Bearer\s+/i, '')
    if (token === '' || token.length > MAX_TOKEN_LENGTH) throw new UsageError('There is no token, or far too much.')
    const { config, secrets } = loadConfig(env)
    const { store, clock, close } = await openOwn(config.databaseUrl)
    try {
      const report = await inspectToken(token, { store, clock, secrets, publicUrl: config.publicUrl })
      out(json ? printable(JSON.stringify(report)) : reportText(report, clock.now()))
      return report.valid ? 0 : 1
    } finally {
      await close()
    }
  }
  return runCommand({ help: HELP, parse, execute }, argv, env, out, err)
}

function parse(args: string[]) {
  const { values, positionals } = readOptions(args)
  if (values.help) return 'help'
  const [command, given, ...rest] = positionals
  if (command !== 'inspect') throw new UsageError('The command is inspect; --help shows how.')
  if (given === undefined || rest.length > 0) throw new UsageError('inspect takes one token, or - for stdin.')
  return { given, json: values.json ?? false }
}

function readOptions(args: string[]) {
  try {
    return readArguments({
      args,
      allowPositionals: true,
      options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    })
  } catch {
    // What was typed is not repeated: it may be a token.
    throw new UsageError('There is no such option; --help shows them.')
  }
}

/** The service's keys and agents, or why there are none. */
async function openOwn(databaseUrl: string) {
  const nothing = (why: string) => ({ store: why, clock: createClock(SYSTEM_TIME), close: async () => {} })
  try {
    const opened = openReadOnly(databaseUrl)
    if (!opened) return nothing('There is no store at DATABASE_URL: our own signatures cannot be checked.')
    const { agents, clock, close } = opened
    return { store: { keys: await readSigningKeys(opened.keys, clock), agents }, clock, close }
  } catch (error) {
    return nothing(`The store at DATABASE_URL cannot be read: ${oneLine(error)}.`)
  }
}
