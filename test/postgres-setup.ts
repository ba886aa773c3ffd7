import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { openStore } from '../src/store/store.ts'
import { postgresBin, startPostgres } from './postgres-server.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Of a database that tests copy; null on a machine without PostgreSQL. */
    postgresTemplate: string | null
  }
}

/** One server for the run, and in it one migrated database that every test's own is a copy of. */
export default async function setUp(project: TestProject) {
  if (postgresBin() === null && process.env.BEHALF_REQUIRE_ALL !== '1') {
    project.provide('postgresTemplate', null)
    return
  }
  const server = await startPostgres({ durable: false })
  const admin = new pg.Client(server.url('postgres'))
  await admin.connect()
  await admin.query('create database behalf_template')
  await admin.end()
  const url = server.url('behalf_template')
  await (await openStore(url, { keepsTime: false })).close()
  project.provide('postgresTemplate', url)
  return () => server.remove()
}
