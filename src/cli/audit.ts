import { databaseUrlOf } from '../config.ts'
import { auditEntryResponse } from '../sessions/json.ts'
import type { AuditEntry, AuditStore } from '../store/audit.ts'
import { withStore } from '../store/commands.ts'
import { createCommand, EXIT_CODES, UsageError } from './command-line.ts'

const HELP = `Shows what agents did or tried on behalf of users, newest first, from the store at DATABASE_URL.

  npm run audit -- session <session id> [--limit <n>] [--json]
  npm run audit -- agent <name> [--limit <n>] [--json]

Identical decisions within one minute share an entry with a count. The outcome is allowed, replayed (a repeated
Idempotency-Key) or the code of the refusal; of a job, assigned or how it ended. With --json use npm run --silent, so
that only JSON is printed.
${EXIT_CODES}`

const DEFAULT_LIMIT = 100

/** The command `npm run audit`. */
export const run = createCommand({
  help: HELP,
  options: { limit: { type: 'string' }, json: { type: 'boolean' } },
  parse: (positionals, { limit, json = false }) => ({ find: lookUp(positionals, readLimit(limit)), json }),
  async execute({ find, json }, env, out) {
    await withStore(databaseUrlOf(env), async ({ audit }) => out(show(await find(audit), json)))
    return 0
  },
})

function readLimit(limit = String(DEFAULT_LIMIT)): number {
  if (!/^[1-9]\d{0,5}$/.test(limit)) throw new UsageError('--limit takes a whole number from 1 to 999999.')
  return Number(limit)
}

function lookUp([of, id, ...rest]: string[], limit: number): (audit: AuditStore) => Promise<AuditEntry[]> {
  if (id !== undefined && rest.length === 0) {
    if (of === 'session') return (audit) => audit.ofSession(id, limit)
    if (of === 'agent') return (audit) => audit.ofAgent(id, limit)
  }
  throw new UsageError('Name a session or an agent: session <id>, or agent <name>.')
}

function show(entries: AuditEntry[], json: boolean): string {
  const shown = entries.map((entry) => ({
    sessionId: entry.sessionId,
    userId: entry.userId,
    ...auditEntryResponse(entry),
  }))
  if (json) return JSON.stringify(shown)
  if (shown.length === 0) return 'No entries.'
  return shown
    .map(
      ({ agentId, route, outcome, count, sessionId, userId, firstAt, lastAt }) =>
        `${lastAt}  ${agentId}  ${route}  ${outcome}  ${count} times since ${firstAt}${sessionId === null ? '' : `  ${userId}  ${sessionId}`}`,
    )
    .join('\n')
}
