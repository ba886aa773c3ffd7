import { databaseUrlOf } from '../config.ts'
import { OperatorError } from '../errors.ts'
import { signedOut } from '../sessions/lifecycle.ts'
import { withStore } from '../store/commands.ts'
import type { Store } from '../store/store.ts'
import { createCommand, EXIT_CODES, UsageError } from './command-line.ts'

const HELP = `Users, in the store that DATABASE_URL names. Works beside the running service.

  npm run user -- sign-out <id or e-mail>   end all sign-ins and sessions of a user, who can sign in again

Their tokens, and agents' callbacks for them, are refused from the next request on. The service removes them from LiveKit
with its next reconciliation, within RECONCILE_SECONDS.
${EXIT_CODES}`

/** The command `npm run user`. */
export const run = createCommand({
  help: HELP,
  options: {},
  parse([command, named, ...rest]) {
    if (command !== 'sign-out') throw new UsageError('The command is sign-out; --help shows how.')
    if (named === undefined || rest.length > 0)
      throw new UsageError('sign-out takes one id or e-mail; --help shows how.')
    return named
  },
  async execute(named, env, out) {
    await withStore(databaseUrlOf(env), async (store) => out(await signOut(named, store)))
    return 0
  },
})

/** @returns the text to print */
async function signOut(named: string, { users, sessions, clock }: Store): Promise<string> {
  const user = (await users.findUser(named)) ?? (await users.findUserByEmail(named.trim().toLowerCase()))
  if (!user) throw new OperatorError('No user has this id or e-mail.')
  const [signIns, ended] = await Promise.all([
    users.revokeFamilies(user.id, clock.latest()),
    sessions.change({ unfinishedOf: user.id }, (unfinished) => {
      const changed = signedOut(unfinished, [], { at: clock.steady(), now: clock.now() })
      return { changed, result: changed.length }
    }),
  ])
  return `${user.id} is signed out. Sign-ins ended: ${signIns}. Sessions ended: ${ended}.`
}
