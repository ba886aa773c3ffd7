import { databaseUrlOf } from '../config.ts'
import { backup, check, restore } from '../store/sqlite/maintenance.ts'
import { type Environment, type Print, readArguments, runCommand, UsageError } from './command-line.ts'

const HELP = `The SQLite file that DATABASE_URL names.

  npm run store -- check [--json]            reads all of it: integrity and references. Works beside the running service
  npm run store -- backup <file> [--json]    a checked copy in one new file. Works beside the running service. It holds
                                             the signing keys: keep it as you keep secrets
  npm run store -- restore <file> [--json]   checks the backup and puts a copy of it in place; refused while a service
                                             runs. The old file is kept beside it

With --json use npm run --silent, so that only JSON is printed.
Exit codes: 0 done and sound; 1 not sound, or it failed; 2 a command or settings that cannot be understood.`

type Command = { verb: 'check'; json: boolean } | { verb: 'backup' | 'restore'; file: string; json: boolean }

/** The command `npm run store`. @returns the exit code */
export const run = (argv: string[], env: Environment, out: Print, err: Print) =>
  runCommand({ help: HELP, parse, execute }, argv, env, out, err)

function parse(args: string[]): Command | 'help' {
  const { values, positionals } = readArguments({
    args,
    allowPositionals: true,
    options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help) return 'help'
  const [verb, file, ...rest] = positionals
  const { json = false } = values
  if (verb === 'check') {
    if (file !== undefined) throw new UsageError('check takes no file: it reads the store that DATABASE_URL names.')
    return { verb, json }
  }
  if (verb !== 'backup' && verb !== 'restore') {
    throw new UsageError('The commands are check, backup and restore; --help shows them.')
  }
  if (file === undefined || rest.length > 0) throw new UsageError(`${verb} takes one file; --help shows how.`)
  return { verb, file, json }
}

async function execute(command: Command, env: Environment, out: Print): Promise<number> {
  const url = databaseUrlOf(env)
  const print = (text: string, fields: Record<string, unknown>) => out(command.json ? JSON.stringify(fields) : text)
  if (command.verb === 'check') {
    const problems = check(url)
    const isSound = problems.length === 0
    print(isSound ? 'The store is sound.' : problems.join('\n'), { ok: isSound, problems })
    return isSound ? 0 : 1
  }
  const { file } = command
  if (command.verb === 'backup') {
    await backup(url, file)
    print(`${file} is a sound copy of the store.`, { file })
    return 0
  }
  const keptAt = restore(url, file, Date.now())
  const kept = keptAt === null ? '' : ` The file that was there is now ${keptAt}.`
  print(`${file} is restored.${kept}`, { restored: file, keptAt })
  return 0
}
