import { existsSync } from 'node:fs'
import { run } from './command.ts'

if (existsSync('.env')) process.loadEnvFile()
process.exitCode = await run(process.argv.slice(2), process.env, console.log, console.error)
