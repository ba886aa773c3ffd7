import { parseArgs } from 'node:util'
import { type Environment, oneLine, type Print, UsageError } from '../command-line.ts'
import { loadConfig } from '../config.ts'
import { openStore } from '../store/open.ts'
import { entryJson } from './routes.ts'
import type { AuditEntry, AuditStore } from './store.ts'

const HELP = `What agents did, or tried, on behalf of users, newest first; from the store that DATABASE_URL names.

  npm run audit -- session <session id> [--limit <n>] [--json]
  npm run audit -- agent <name> [--limit <n>] [--json]

Equal decisions of one minute are one entry with a count. The outcome is allowed, replayed (an Idempotency-Key that was
answered before) or the code of the refusal. With --json use npm run --silent, so that only JSON is printed.`

const DEFAULT_LIMIT = 100

/**
 * The command `npm run audit`: results go to `out`, errors as one line to `err`.
 * @returns the exit code: 0, 1 for a command that failed, 2 for one that cannot be understood.
 */
export async function run(argv: string[], env: Environment, out: Print, err: Print): Promise<number> {
  try {
    const { values, positionals } = readArguments(argv)
    if (values.help) {
      out(HELP)
      return 0
    }
    const find = lookUp(positionals, readLimit(values.limit))
    const store = await openStore(loadConfig(env).config.databaseUrl)
    try {
      out(show(await find(store.audit), values.json ?? false))
    } finally {
      await store.close()
    }
    return 0
  } catch (error) {
    err(oneLine(error))
    return error instanceof UsageError ? 2 : 1
  }
}

function readArguments(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        limit: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

function readLimit(limit = String(DEFAULT_LIMIT)): number {
  if (!/^[1-9]\d{0,5}$/.test(limit)) throw new UsageError('--limit takes a whole number from 1.')
  return Number(limit)
}

function lookUp([of, id, ...rest]: string[], limit: number): (audit: AuditStore) => Promise<AuditEntry[]> {
  if (id === undefined || rest.length > 0) throw new UsageError('Say whose: session <id> or agent <name>.')
  switch (of) {
    case 'session':
      return (audit) => audit.ofSession(id, limit)
    case 'agent':
      return (audit) => audit.ofAgent(id, limit)
    default:
      throw new UsageError('Say whose: session <id> or agent <name>.')
  }
}

function show(entries: AuditEntry[], json: boolean): string {
  const shown = entries.map((entry) => ({ sessionId: entry.sessionId, userId: entry.userId, ...entryJson(entry) }))
  if (json) return JSON.stringify(shown)
  if (shown.length === 0) return 'There is nothing.'
  return shown
    .map(
      ({ agentId, route, outcome, count, sessionId, userId, firstAt, lastAt }) =>
        `${lastAt}  ${agentId}  ${route}  ${outcome}  ${count} times since ${firstAt}  ${userId}  ${sessionId}`,
    )
    .join('\n')
}
