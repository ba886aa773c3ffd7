import {
  type AgentAccounts,
  type AgentCredentials,
  type AgentSummary,
  createAgentAccounts,
  type NewSecret,
} from '../agent/accounts.ts'
import { DEFAULT_SCOPES, SCOPES, type Scope } from '../auth/scopes.ts'
import { agentScopesOf, databaseUrlOf, isProduction } from '../config.ts'
import { type Agent, SUMMONERS } from '../store/agents.ts'
import { withStore } from '../store/commands.ts'
import { createCommand, type Environment, EXIT_CODES, isoOrNull, type Print, UsageError } from './command-line.ts'

const HELP = `Manages agent accounts in the store at DATABASE_URL. Safe while the service runs; changes take effect at once.

  npm run agent -- create <name> [--scope <scope>]... [--summon any|none] [--json]
                                                                 create an agent; its secret is shown once
  npm run agent -- set <name> [--scope <scope>]... [--summon any|none]
                                                                 replace its scopes, or choose who may summon it
  npm run agent -- list [--json]                                 list all agents
  npm run agent -- disable <name>                                refuse its secret and its tokens
  npm run agent -- enable <name>                                 accept its secret again
  npm run agent -- rekey <name> [--overlap <minutes>] [--json]   issue a new secret and refuse the old one and its tokens.
                                                                 With --overlap, the old secret stays valid that long and
                                                                 tokens stay valid until they expire

Default scopes: ${DEFAULT_SCOPES.join(' ')}, and those in AGENT_SCOPES
Others: rooms:join (join tokens for itself), calls:place (ring a user's phone), sessions:any (act in sessions that
another agent was dispatched to)
Any client may summon an agent by name. With --summon none, only DEFAULT_AGENT dispatches it.
With --json use npm run --silent, so that only JSON is printed. Its id and secret are OAuth's client_id and client_secret.
${EXIT_CODES}`

const TAKES = {
  create: { name: true, options: ['scope', 'summon', 'json'] },
  set: { name: true, options: ['scope', 'summon'] },
  list: { name: false, options: ['json'] },
  disable: { name: true, options: [] },
  enable: { name: true, options: [] },
  rekey: { name: true, options: ['overlap', 'json'] },
} as const satisfies Record<string, { name: boolean; options: string[] }>

type CommandName = keyof typeof TAKES

interface Command {
  command: CommandName
  /** Empty for a command that takes none. */
  name: string
  /** As typed. */
  scopes: readonly string[] | undefined
  summon: Agent['summon'] | undefined
  overlapMs: number | undefined
  json: boolean
}

const MAX_OVERLAP_MINUTES = 7 * 24 * 60

/** The command `npm run agent`. */
export const run = createCommand({
  help: HELP,
  options: {
    scope: { type: 'string', multiple: true },
    summon: { type: 'string' },
    overlap: { type: 'string' },
    json: { type: 'boolean' },
  },
  parse([command, name = '', ...rest], values): Command {
    if (command === undefined) throw new UsageError('Name a command; see --help.')
    if (!isCommand(command)) throw new UsageError(`Unknown command ${command}; see --help.`)
    const takes = TAKES[command]
    if (takes.name !== (name !== '') || rest.length > 0) {
      throw new UsageError(`${command} takes ${takes.name ? 'one name' : 'no name'}; see --help.`)
    }
    const wrong = Object.keys(values).find((option) => !takes.options.some((known) => known === option))
    if (wrong) throw new UsageError(`${command} does not take --${wrong}.`)
    const rights = { scopes: values.scope, summon: summonOf(values.summon) }
    if (command === 'set' && !rights.scopes && !rights.summon)
      throw new UsageError('set takes --scope, --summon or both.')
    return { command, name, ...rights, overlapMs: overlapMs(values.overlap), json: values.json ?? false }
  },
  execute,
})

function summonOf(typed: string | undefined): Agent['summon'] | undefined {
  const known = SUMMONERS.find((one) => one === typed)
  if (typed !== undefined && !known) throw new UsageError(`--summon takes ${SUMMONERS.join(' or ')}.`)
  return known
}

function overlapMs(minutes: string | undefined): number | undefined {
  if (minutes === undefined) return undefined
  const count = Number(minutes)
  if (!/^\d+$/.test(minutes) || count < 1 || count > MAX_OVERLAP_MINUTES) {
    throw new UsageError(`--overlap takes whole minutes, 1 to ${MAX_OVERLAP_MINUTES} (a week).`)
  }
  return count * 60_000
}

const isCommand = (word: string): word is CommandName => Object.hasOwn(TAKES, word)

async function execute(command: Command, env: Environment, out: Print): Promise<number> {
  // In development, agents may be created before the service first starts, as the demo does. In production, a missing
  // store means that DATABASE_URL is wrong.
  const all = agentScopesOf(env)
  const typed = command.scopes ?? (command.command === 'create' ? all.filter(isDefault) : undefined)
  const scopes = typed && scopesAmong(all, typed)
  const mayCreate = command.command === 'create' && !isProduction(env)
  await withStore(
    databaseUrlOf(env),
    async (store) => {
      out(await carryOut({ ...command, scopes }, createAgentAccounts(store)))
      if (command.command === 'disable' && command.name === env.DEFAULT_AGENT) {
        out('It is DEFAULT_AGENT: users who name no agent now join without one.')
      }
    },
    { mayCreate },
  )
  return 0
}

/** A team's own scopes are granted by default, too. */
const isDefault = (scope: Scope) => !SCOPES.some((own) => own === scope) || DEFAULT_SCOPES.some((own) => own === scope)

function scopesAmong(all: readonly Scope[], typed: readonly string[]): Scope[] {
  const unknown = typed.find((name) => !all.some((scope) => scope === name))
  if (unknown !== undefined) throw new UsageError(`Unknown scope ${unknown}. The scopes are ${all.join(', ')}.`)
  return all.filter((scope) => typed.includes(scope))
}

/** @returns the text to print. */
async function carryOut(
  { command, name, scopes, summon, overlapMs, json }: Command & { scopes: Scope[] | undefined },
  accounts: AgentAccounts,
): Promise<string> {
  switch (command) {
    case 'create':
      return showCredentials(await accounts.create(name, scopes ?? [], summon), json)
    case 'rekey':
      return showCredentials(await accounts.rekey(name, overlapMs), json)
    case 'list':
      return showAgents(await accounts.list(), json)
    case 'set':
      await accounts.set(name, { ...(scopes ? { scopes } : {}), ...(summon ? { summon } : {}) })
      return `${name} is changed.`
    case 'disable':
      await accounts.disable(name)
      return `${name} is disabled.`
    case 'enable':
      await accounts.enable(name)
      return `${name} is enabled.`
  }
}

function showCredentials(credentials: AgentCredentials & Partial<NewSecret>, json: boolean): string {
  const { id, secret, scopes } = credentials
  const oldSecretUntil = isoOrNull(credentials.oldSecretUntil ?? null)
  if (json) return JSON.stringify({ id, secret, scopes, ...(oldSecretUntil === null ? {} : { oldSecretUntil }) })
  return `BEHALF_AGENT_ID=${id}
BEHALF_AGENT_SECRET=${secret}
Scopes: ${scopes.join(' ')}
The secret is not shown again.${oldSecretUntil === null ? '' : ` The old one is valid until ${oldSecretUntil}.`}`
}

function showAgents(agents: AgentSummary[], json: boolean): string {
  const shown = agents.map(({ id, scopes, summon, createdAt, disabledAt, oldSecretUntil }) => ({
    id,
    scopes,
    summon,
    createdAt: isoOrNull(createdAt),
    disabledAt: isoOrNull(disabledAt),
    oldSecretUntil: isoOrNull(oldSecretUntil),
  }))
  if (json) return JSON.stringify(shown)
  if (shown.length === 0) return 'There are no agents yet.'
  return shown
    .map((agent) => {
      const state = agent.disabledAt === null ? 'enabled' : `disabled ${agent.disabledAt}`
      const old = agent.oldSecretUntil === null ? '' : `  old secret until ${agent.oldSecretUntil}`
      return `${agent.id}  ${state}  created ${agent.createdAt}${old}  summon ${agent.summon}  ${agent.scopes.join(' ')}`
    })
    .join('\n')
}
