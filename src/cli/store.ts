import { databaseUrlOf } from '../config.ts'
import { OperatorError } from '../errors.ts'
import { backup, check, restore } from '../store/sqlite/maintenance.ts'
import { isPostgres, loadPostgres } from '../store/store.ts'
import { createCommand, type Environment, type Print, UsageError } from './command-line.ts'

const HELP = `Checks, backs up, restores or migrates the SQLite file at DATABASE_URL.

  npm run store -- check [--json]            check integrity and references. Safe while the service runs
  npm run store -- backup <file> [--json]    write a checked copy to a new file. Safe while the service runs. The copy
                                             holds the signing keys: keep it secret
  npm run store -- restore <file> [--json]   check a backup and replace the store with a copy of it; refused while a
                                             service runs. The old file is kept beside the new one
  npm run store -- migrate --to <postgres://…> [--json]
                                             copy the store into an empty PostgreSQL database and compare the copy;
                                             refused while a service runs. PGPASSWORD keeps the password off the line

With --json use npm run --silent, so that only JSON is printed.
Exit codes: 0 success; 1 damaged store or other failure; 2 invalid command or settings.`

type Command = { json: boolean } & (
  | { verb: 'check' }
  | { verb: 'backup' | 'restore'; file: string }
  | { verb: 'migrate'; to: string }
)

/** The command `npm run store`. */
export const run = createCommand({
  help: HELP,
  options: { json: { type: 'boolean' }, to: { type: 'string' } },
  parse,
  execute,
})

function parse([verb, file, ...rest]: string[], { json = false, to }: { json?: boolean; to?: string }): Command {
  if (verb === 'migrate') {
    if (file !== undefined || to === undefined || !isPostgres(to) || !URL.canParse(to)) {
      throw new UsageError('migrate takes --to with a URL such as postgres://<user>@<host>/<database>.')
    }
    return { verb, to, json }
  }
  if (to !== undefined) throw new UsageError('Only migrate takes --to.')
  if (verb === 'check') {
    if (file !== undefined) throw new UsageError('check takes no file: it reads the store at DATABASE_URL.')
    return { verb, json }
  }
  if (verb !== 'backup' && verb !== 'restore') {
    throw new UsageError('The commands are check, backup, restore and migrate; see --help.')
  }
  if (file === undefined || rest.length > 0) throw new UsageError(`${verb} takes one file; see --help.`)
  return { verb, file, json }
}

async function execute(command: Command, env: Environment, out: Print): Promise<number> {
  const url = databaseUrlOf(env)
  if (isPostgres(url))
    throw new OperatorError(`PostgreSQL has its own tools for ${command.verb}: pg_amcheck, pg_dump and pg_restore.`)
  const print = (text: string, fields: Record<string, unknown>) => out(command.json ? JSON.stringify(fields) : text)
  if (command.verb === 'check') {
    const problems = check(url)
    const isSound = problems.length === 0
    print(isSound ? 'The store is sound.' : problems.join('\n'), { ok: isSound, problems })
    return isSound ? 0 : 1
  }
  if (command.verb === 'migrate') {
    await loadPostgres()
    const { copyToPostgres } = await import('../store/postgres/copy.ts')
    const copied = await copyToPostgres(url, command.to)
    const lines = copied.map(
      ({ table, rows, checksum }) => `${table.padEnd(18)} ${String(rows).padStart(9)}  ${checksum}`,
    )
    print([...lines, 'Copied and compared. Set DATABASE_URL to the new database.'].join('\n'), { copied })
    return 0
  }
  const { file } = command
  if (command.verb === 'backup') {
    await backup(url, file)
    print(`Wrote a checked copy of the store to ${file}.`, { file })
    return 0
  }
  const keptAt = restore(url, file, Date.now())
  const kept = keptAt === null ? '' : ` The previous file is now ${keptAt}.`
  print(`Restored ${file}.${kept}`, { restored: file, keptAt })
  return 0
}
