#!/usr/bin/env node
import { text } from 'node:stream/consumers'
import { run as runAgent } from './cli/agent.ts'
import { run as runAudit } from './cli/audit.ts'
import { loadDotEnv } from './cli/dot-env.ts'
import { run as runKeys } from './cli/keys.ts'
import { run as runStore } from './cli/store.ts'
import { run as runToken } from './cli/token.ts'
import { startService } from './start.ts'

const HELP = `Behalf. Without a command it starts the service. In production: node dist/cli.js <command>, or npx behalf <command>.

  npm run agent -- --help   agent accounts
  npm run audit -- --help   what agents did on behalf of users
  npm run keys -- --help    the keys that sign access tokens, and their rotation
  npm run store -- --help   integrity check, backup and restore of the database
  npm run token -- --help   what a token is, what it allows and whether it is valid`

async function main([command, ...argv]: string[]): Promise<number | undefined> {
  loadDotEnv(process.env)
  switch (command) {
    case undefined:
      startService()
      return undefined
    case 'agent':
      return runAgent(argv, process.env, console.log, console.error)
    case 'audit':
      return runAudit(argv, process.env, console.log, console.error)
    case 'keys':
      return runKeys(argv, process.env, console.log, console.error)
    case 'store':
      return runStore(argv, process.env, console.log, console.error)
    case 'token':
      return runToken(argv, process.env, console.log, console.error, () => text(process.stdin))
    case '--help':
    case '-h':
      console.log(HELP)
      return 0
    default:
      console.error(
        `Unknown command ${JSON.stringify(command)}. The commands are agent, audit, keys, store and token; see --help.`,
      )
      return 2
  }
}

process.exitCode = await main(process.argv.slice(2))
