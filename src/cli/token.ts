import { readSigningKeys } from '../auth/keys.ts'
import { createClock, SYSTEM_TIME } from '../clock.ts'
import { loadConfig } from '../config.ts'
import { openReadOnly } from '../store/commands.ts'
import { createCommand, oneLine, UsageError } from './command-line.ts'
import { inspectToken } from './token-inspect.ts'
import { reportText } from './token-report.ts'

const HELP = `Shows what a token is, who it is for, what it allows, and whether it is valid here. Takes user and agent access tokens,
LiveKit join tokens and webhook signatures. Changes nothing.

  npm run token -- inspect - [--json]       reads the token from stdin, which keeps it out of the shell history
  npm run token -- inspect <jwt> [--json]   npm prints the command line with the token: use npm run --silent

The keys come from the store at DATABASE_URL, and from LIVEKIT_API_KEY and LIVEKIT_API_SECRET.
Exit codes: 0 valid; 1 not valid here; 2 invalid command or settings.`

/** Far longer than any token that a request could carry. */
const MAX_TOKEN_LENGTH = 64 * 1024

/** The command `npm run token`; neither the report nor an error ever holds the token. */
export const run = createCommand({
  help: HELP,
  options: { json: { type: 'boolean' } },
  takesToken: true,
  parse([command, given, ...rest], { json = false }) {
    if (command !== 'inspect') throw new UsageError('The only command is inspect; see --help.')
    if (given === undefined || rest.length > 0) throw new UsageError('inspect takes one token, or - for stdin.')
    return { given, json }
  },
  async execute({ given, json }, env, out, readStdin) {
    const token = (given === '-' ? await readStdin() : given).trim().replace(/^Bearer\s+/i, '')
    if (token === '' || token.length > MAX_TOKEN_LENGTH)
      throw new UsageError(`The token is empty or longer than ${MAX_TOKEN_LENGTH} characters.`)
    const { config, secrets } = loadConfig(env)
    const { store, clock, close } = await openOwn(config.databaseUrl)
    try {
      const report = await inspectToken(token, { store, clock, secrets, publicUrl: config.publicUrl })
      out(json ? JSON.stringify(report) : reportText(report, clock.now()))
      return report.valid ? 0 : 1
    } finally {
      await close()
    }
  },
})

/** The service's keys, agents and users, or why there are none. */
async function openOwn(databaseUrl: string) {
  const nothing = (why: string) => ({ store: why, clock: createClock(SYSTEM_TIME), close: async () => {} })
  try {
    const { keys, agents, users, clock, close } = await openReadOnly(databaseUrl)
    return { store: { keys: await readSigningKeys(keys, clock), agents, users }, clock, close }
  } catch (error) {
    return nothing(`Access tokens cannot be checked with the store at DATABASE_URL: ${oneLine(error)}`)
  }
}
