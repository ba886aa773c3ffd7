#!/usr/bin/env node
import './node-version.ts'
import { text } from 'node:stream/consumers'

const HELP = `Behalf. Without a command it starts the service. In production: node dist/cli.js <command>, or npx behalf <command>.

  npm run agent -- --help   agent accounts
  npm run audit -- --help   what agents did on behalf of users
  npm run keys -- --help    the keys that sign access tokens, and their rotation
  npm run store -- --help   integrity check, backup, restore, and the move to PostgreSQL
  npm run token -- --help   what a token is, what it allows and whether it is valid
  npm run user -- --help    signing a user out`

const COMMANDS = {
  agent: () => import('./cli/agent.ts'),
  audit: () => import('./cli/audit.ts'),
  keys: () => import('./cli/keys.ts'),
  store: () => import('./cli/store.ts'),
  token: () => import('./cli/token.ts'),
  user: () => import('./cli/user.ts'),
}

async function main([command, ...argv]: string[]): Promise<number | undefined> {
  if (command === undefined) {
    ;(await import('./start.ts')).startService()
    return undefined
  }
  if (command === '--help' || command === '-h') {
    console.log(HELP)
    return 0
  }
  if (!Object.hasOwn(COMMANDS, command)) {
    const known = Object.keys(COMMANDS).join(', ')
    console.error(`Unknown command ${JSON.stringify(command)}. The commands are ${known}; see --help.`)
    return 2
  }
  const { readDotEnv } = await import('./cli/command-line.ts')
  if (!readDotEnv(process.env, console.error)) return 2
  const { run } = await COMMANDS[command as keyof typeof COMMANDS]()
  return run(argv, process.env, console.log, console.error, () => text(process.stdin))
}

process.exitCode = await main(process.argv.slice(2))
