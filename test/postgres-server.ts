import { execFileSync } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freeTcpPort } from './e2e/processes.ts'

const DEBIAN = '/usr/lib/postgresql'

/** The folder of `pg_ctl`: `POSTGRES_BIN`, the newest of Debian's packages, or one on the PATH; null without a server. */
export function postgresBin(): string | null {
  const debian = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [
    process.env.POSTGRES_BIN,
    ...debian.map((version) => join(DEBIAN, version, 'bin')),
    ...(process.env.PATH ?? '').split(':'),
  ]
  return folders.find((folder) => folder && existsSync(join(folder, 'pg_ctl'))) ?? null
}

interface ServerOptions {
  /** False for tests that only need the answers: what is written need not survive. */
  durable?: boolean
  /** Where its files go; by default among the system's temporary ones. */
  within?: string
  /** Streams from that server instead of starting empty. */
  replicaOf?: PostgresServer
}

export interface PostgresServer {
  /** The URL of one of its databases. */
  url(database: string): string
  start(): void
  /** `immediate` is a crash. */
  stop(mode?: 'fast' | 'immediate'): void
  /** Stops it and deletes its files. */
  remove(): void
}

/** A server of its own on a free port of 127.0.0.1, started; PostgreSQL refuses root, so then it runs as `postgres`. */
export async function startPostgres({
  durable = true,
  within,
  replicaOf,
}: ServerOptions = {}): Promise<PostgresServer> {
  const bin = postgresBin()
  if (bin === null) throw new Error('There is no PostgreSQL server: install postgresql, or set POSTGRES_BIN')
  const folder = mkdtempSync(join(within ?? tmpdir(), 'behalf-postgres-'))
  const isRoot = process.getuid?.() === 0
  if (isRoot) {
    const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
    chownSync(folder, id('-u'), id('-g'))
  }
  const run = (program: string, args: string[]) => {
    const command = [join(bin, program), ...args]
    const [file = '', ...rest] = isRoot ? ['runuser', '-u', 'postgres', '--', ...command] : command
    // Its output would keep this process waiting for as long as the server runs.
    execFileSync(file, rest, { cwd: folder, stdio: 'ignore' })
  }
  const data = join(folder, 'data')
  const port = await freeTcpPort()
  const settings = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: folder,
    max_connections: 1000,
    fsync: durable ? 'on' : 'off',
    ...(durable ? {} : { full_page_writes: 'off', synchronous_commit: 'off', autovacuum: 'off' }),
  }
  const options = Object.entries(settings).map(([name, value]) => `-c ${name}=${value}`)
  if (replicaOf) run('pg_basebackup', ['-D', data, '-d', replicaOf.url('postgres'), '-R', '-X', 'stream', '-c', 'fast'])
  else {
    run('initdb', [
      '-D',
      data,
      '-U',
      'behalf',
      '-A',
      'trust',
      '-E',
      'UTF8',
      '--no-sync',
      '--locale-provider=icu',
      '--icu-locale=en-US',
    ])
  }
  const server = {
    url: (database: string) => `postgres://behalf@127.0.0.1:${port}/${database}`,
    start: () => run('pg_ctl', ['-D', data, '-w', '-o', options.join(' '), '-l', join(folder, 'log'), 'start']),
    stop: (mode = 'fast') => run('pg_ctl', ['-D', data, '-w', '-m', mode, 'stop']),
    remove() {
      try {
        server.stop('immediate')
      } catch {
        // It is stopped already.
      }
      rmSync(folder, { recursive: true, force: true })
    },
  }
  server.start()
  return server
}
