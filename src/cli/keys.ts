import { newSigningKey } from '../auth/keys.ts'
import { remove, rotate, stateOf } from '../auth/rotation.ts'
import { databaseUrlOf } from '../config.ts'
import { withStore } from '../store/commands.ts'
import type { KeyStore, StoredKey } from '../store/keys.ts'
import { createCommand, EXIT_CODES, isoOrNull, UsageError } from './command-line.ts'

const HELP = `Manages the keys that sign access tokens, in the store at DATABASE_URL. Safe while the service runs: it notices changes
within two seconds.

  npm run keys -- list [--json]           list all keys, oldest first
  npm run keys -- rotate [--json]         add a key: published now, signs in 5 minutes; the old one stays until its tokens expire
  npm run keys -- rotate --now [--json]   for a leaked key: the new key signs at once, all others are removed, and every access
                                          token issued so far is refused. Other verifiers may cache the old key for 5 minutes
  npm run keys -- remove <kid>            refuse a retired key's tokens now, or cancel a rotation that has not begun to sign

With --json use npm run --silent, so that only JSON is printed.
${EXIT_CODES}`

type Command = { verb: 'list' | 'rotate'; now: boolean; json: boolean } | { verb: 'remove'; kid: string }

/** SHA-256 in base64url. One in 64 begins with a hyphen, which `parseArgs` would take for options. */
const KID = /^[\w-]{43}$/

const command = createCommand({
  help: HELP,
  options: { now: { type: 'boolean' }, json: { type: 'boolean' } },
  parse([verb, kid, ...rest], { now = false, json = false }): Command {
    if (verb === 'remove') {
      if (kid === undefined || rest.length > 0) throw new UsageError('remove takes one kid; see --help.')
      if (now || json) throw new UsageError('remove takes no options.')
      return { verb, kid }
    }
    if (verb !== 'list' && verb !== 'rotate')
      throw new UsageError('The commands are list, rotate and remove; see --help.')
    if (kid !== undefined) throw new UsageError(`${verb} takes no kid; see --help.`)
    if (now && verb === 'list') throw new UsageError('list does not take --now.')
    return { verb, now, json }
  },
  async execute(command, env, out) {
    await withStore(databaseUrlOf(env), async ({ keys, clock }) => out(await carryOut(command, keys, clock.latest())))
    return 0
  },
})

/** The command `npm run keys`. */
export const run: typeof command = (argv, ...rest) =>
  command(
    argv.flatMap((arg) => (KID.test(arg) ? ['--', arg] : [arg])),
    ...rest,
  )

/** @returns the text to print. */
async function carryOut(command: Command, store: KeyStore, now: number): Promise<string> {
  if (command.verb === 'remove') {
    await store.changeSigningKeys((keys) => remove(keys, command.kid, now))
    return `Removed ${command.kid}.`
  }
  if (command.verb === 'rotate') {
    const next = await newSigningKey(now)
    await store.changeSigningKeys((keys) => (command.now ? [next] : rotate(keys, next, now)))
  }
  return show(await store.signingKeys(), now, command.json)
}

function show(keys: StoredKey[], now: number, json: boolean): string {
  const shown = keys.map((key) => ({
    kid: key.kid,
    state: stateOf(key, keys, now),
    createdAt: isoOrNull(key.createdAt),
    signsFrom: isoOrNull(key.signsFrom),
    publishedUntil: isoOrNull(key.expiresAt),
  }))
  if (json) return JSON.stringify(shown)
  if (shown.length === 0) return 'There are no keys yet: the service generates the first one when it starts.'
  return shown
    .map(({ kid, state, signsFrom, publishedUntil }) => {
      const until = publishedUntil === null ? '' : `, published until ${publishedUntil}`
      return `${kid}  ${state.padEnd(7)}  signs from ${signsFrom}${until}`
    })
    .join('\n')
}
