import { databaseUrlOf } from '../config.ts'
import { signedOut } from '../sessions/lifecycle.ts'
import { openForCommand } from '../store/sqlite/command-store.ts'
import type { Store } from '../store/store.ts'
import { type Environment, EXIT_CODES, type Print, readArguments, runCommand, UsageError } from './command-line.ts'

const HELP = `Users, in the store that DATABASE_URL names. Works beside the running service.

  npm run user -- sign-out <id or e-mail>   end all sign-ins and sessions of a user, who can sign in again

Their tokens, and agents' callbacks for them, are refused from the next request on. The service removes them from LiveKit
with its next reconciliation, within RECONCILE_SECONDS.
${EXIT_CODES}`

/** The command `npm run user`. @returns the exit code */
export const run = (argv: string[], env: Environment, out: Print, err: Print) =>
  runCommand({ help: HELP, parse, execute }, argv, env, out, err)

function parse(args: string[]): string | 'help' {
  const options = { help: { type: 'boolean', short: 'h' } } as const
  const { values, positionals } = readArguments({ args, allowPositionals: true, options })
  if (values.help) return 'help'
  const [command, named, ...rest] = positionals
  if (command !== 'sign-out') throw new UsageError('The command is sign-out; --help shows how.')
  if (named === undefined || rest.length > 0) throw new UsageError('sign-out takes one id or e-mail; --help shows how.')
  return named
}

async function execute(named: string, env: Environment, out: Print): Promise<number> {
  const store = await openForCommand(databaseUrlOf(env))
  try {
    out(await signOut(named, store))
  } finally {
    await store.close()
  }
  return 0
}

/** @returns the text to print */
async function signOut(named: string, { users, sessions, clock }: Store): Promise<string> {
  const user = (await users.findUser(named)) ?? (await users.findUserByEmail(named.trim().toLowerCase()))
  if (!user) throw new Error('There is no user of that id or e-mail.')
  const [signIns, calls] = await Promise.all([
    users.revokeFamilies(user.id, clock.latest()),
    sessions.change({ unfinishedOf: user.id }, (unfinished) => {
      const changed = signedOut(unfinished, [], { at: clock.steady(), now: clock.now() })
      return { changed, result: changed.length }
    }),
  ])
  return `${user.id} is signed out. Sign-ins ended: ${signIns}. Sessions ended: ${calls}.`
}
