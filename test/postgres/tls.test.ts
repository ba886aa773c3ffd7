import { execFileSync } from 'node:child_process'
import { chownSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { connect as connectTls, TLSSocket } from 'node:tls'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { openStore } from '../../src/store/store.ts'
import { withClient } from '../database.ts'
import { type PostgresServer, startPostgres } from '../postgres-server.ts'

// A server of its own, which is configured anew for each group of tests, and certificates for it.
let server: PostgresServer
let folder: string
/** By the server's socket, where neither TLS nor pg_hba.conf stands in the way. */
let socketUrl: string
let admin: pg.Client

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'behalf-tls-'))
  newAuthority('ca')
  newAuthority('other-ca')
  newCertificate('server', 'localhost', 'ca')
  newCertificate('client', 'behalf', 'ca')
  newCertificate('foreign', 'behalf', 'other-ca')
  server = await startPostgres({ durable: false })
  const { rows } = await withClient(server.url('postgres'), (client) =>
    client.query(
      "select setting from pg_settings where name in ('config_file', 'unix_socket_directories') order by name",
    ),
  )
  const [config, socket] = rows.map(({ setting }) => setting)
  socketUrl = `${server.url('postgres')}?host=${encodeURIComponent(socket)}`
  admin = new pg.Client(socketUrl)
  await admin.connect()
  await admin.query('create database behalf')
  const data = dirname(config)
  const { uid, gid } = statSync(data)
  for (const name of ['ca.crt', 'server.crt', 'server.key']) {
    writeFileSync(join(data, name), readFileSync(file(name)), { mode: 0o600 })
    chownSync(join(data, name), uid, gid)
  }
  for (const [name, value] of [
    ['ssl_cert_file', 'server.crt'],
    ['ssl_key_file', 'server.key'],
    ['ssl_ca_file', 'ca.crt'],
  ]) {
    await admin.query(`alter system set ${name} = '${value}'`)
  }
}, 60_000)
afterAll(async () => {
  await admin?.end()
  server?.remove()
  rmSync(folder, { recursive: true, force: true })
})

const file = (name: string) => join(folder, name)
const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
const NEW_KEY = ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

function newAuthority(name: string): void {
  openssl(...NEW_KEY, '-x509', '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.crt`)
}

function newCertificate(name: string, subject: string, authority: string): void {
  openssl(...NEW_KEY, '-subj', `/CN=${subject}`, '-keyout', `${name}.key`, '-out', `${name}.csr`)
  writeFileSync(file(`${name}.ext`), `subjectAltName = DNS:${subject}`)
  const signer = ['-CA', `${authority}.crt`, '-CAkey', `${authority}.key`, '-CAcreateserial']
  openssl('x509', '-req', '-in', `${name}.csr`, ...signer, '-extfile', `${name}.ext`, '-out', `${name}.crt`)
}

let generation = 0

/** Configures the server, and resolves when new connections find it so. */
async function configure({ ssl, hba }: { ssl: 'on' | 'off'; hba: string }): Promise<void> {
  const { rows } = await admin.query('show hba_file')
  writeFileSync(rows[0].hba_file, `local all all trust\n${hba}\n`)
  await admin.query(`alter system set ssl = ${ssl}`)
  generation += 1
  await admin.query(`alter system set log_min_duration_statement = ${1_000_000 + generation}`)
  await admin.query('select pg_reload_conf()')
  await vi.waitUntil(
    () =>
      withClient(socketUrl, async (client) => {
        const { rows } = await client.query("select current_setting('log_min_duration_statement', true) as shown")
        return rows[0].shown.startsWith(`${1_000_000 + generation}`)
      }),
    { interval: 20, timeout: 10_000 },
  )
}

type Parameters = Partial<
  Record<'host' | 'user' | 'database' | 'port' | 'sslmode' | 'sslrootcert' | 'sslcert' | 'sslkey', string>
>

function urlOf({ host = 'localhost', user = 'behalf', database = 'behalf', port, ...query }: Parameters): string {
  const own = new URL(server.url(database))
  return `postgres://${user}@${host}:${port ?? own.port}/${database}?${new URLSearchParams(query)}`
}

let opened = 0

/** How the server sees the store's connections, the one that listens among them; or why the store was refused. */
async function seen(parameters: Parameters): Promise<string> {
  const name = `behalf-${++opened}`
  const url = `${urlOf(parameters)}&application_name=${name}`
  const outcome = await openStore(url, { poolSize: 1 }).catch((error: Error) => error.message)
  if (typeof outcome === 'string') return outcome
  const unsubscribe = outcome.events.subscribe('sess_1', () => {})
  const kinds = await vi.waitUntil(
    async () => {
      const { rows } = await admin.query(
        `select case when ssl then concat_ws(' ', 'TLS', client_dn) else 'plain' end as kind
          from pg_stat_ssl join pg_stat_activity using (pid) where application_name = $1`,
        [name],
      )
      return rows.length === 2 && rows.map(({ kind }) => kind)
    },
    { interval: 10, timeout: 10_000 },
  )
  unsubscribe()
  await outcome.close()
  return [...new Set(kinds)].join()
}

/** Ends a TLS connection and begins another, as someone on the way to the server would. */
async function startInterceptor(): Promise<string> {
  const certificate = { key: readFileSync(file('foreign.key')), cert: readFileSync(file('foreign.crt')) }
  const interceptor = createServer((socket) => {
    socket.once('data', (sslRequest) => {
      socket.write('S')
      const client = new TLSSocket(socket, { isServer: true, ...certificate })
      const raw = connect(Number(new URL(server.url('behalf')).port), '127.0.0.1', () => raw.write(sslRequest))
      raw.once('data', () => {
        const upstream = connectTls({ socket: raw, rejectUnauthorized: false })
        client.pipe(upstream).pipe(client)
        for (const side of [client, upstream]) side.on('error', () => {})
      })
    })
  })
  await new Promise<void>((resolve) => interceptor.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void interceptor.close())
  return String((interceptor.address() as AddressInfo).port)
}

/** A refusal at the start, in one sentence that names no password. */
const refusal = (code: string, advice: string) =>
  expect.stringMatching(new RegExp(`^DATABASE_URL: postgres://[^ @]+/\\w+ cannot be used ?${code}: ${advice}.*\\.$`))

describe('a server that takes connections with and without TLS', () => {
  beforeAll(() => configure({ ssl: 'on', hba: 'host all all 127.0.0.1/32 trust' }))

  test('gets what sslmode says, on the connection that listens, too', async () => {
    const sslrootcert = file('ca.crt')
    expect(await seen({})).toBe('plain')
    expect(await seen({ sslmode: 'disable' })).toBe('plain')
    expect(await seen({ sslmode: 'allow' })).toBe('plain')
    expect(await seen({ sslmode: 'prefer' })).toBe('TLS')
    expect(await seen({ sslmode: 'require' })).toBe('TLS')
    expect(await seen({ sslmode: 'verify-ca', sslrootcert })).toBe('TLS')
    expect(await seen({ sslmode: 'verify-full', sslrootcert })).toBe('TLS')
  })

  test('is refused when its certificate is not signed by sslrootcert, or by a public authority', async () => {
    const untrusted = refusal('\\(SELF_SIGNED_CERT_IN_CHAIN\\)', 'its certificate is not signed by an authority')
    const sslrootcert = file('other-ca.crt')
    for (const sslmode of ['require', 'verify-ca', 'verify-full']) {
      expect(await seen({ sslmode, sslrootcert })).toEqual(untrusted)
    }
    expect(await seen({ sslmode: 'verify-full' })).toEqual(untrusted)
  })

  test('is refused by verify-full when its certificate is for another host', async () => {
    const parameters = { host: '127.0.0.1', sslrootcert: file('ca.crt') }
    expect(await seen({ ...parameters, sslmode: 'verify-full' })).toEqual(
      refusal('\\(ERR_TLS_CERT_ALTNAME_INVALID\\)', 'its certificate is for another host'),
    )
    expect(await seen({ ...parameters, sslmode: 'verify-ca' })).toBe('TLS')
  })

  test('is refused when verify-ca has no sslrootcert, or that names no file', async () => {
    expect(await seen({ sslmode: 'verify-ca' })).toEqual(refusal('', 'sslmode=verify-ca needs sslrootcert'))
    expect(await seen({ sslmode: 'verify-full', sslrootcert: file('no.crt') })).toEqual(
      refusal('\\(ENOENT\\)', 'the socket or certificate does not exist'),
    )
  })
})

test('a server that wants TLS refuses a connection without it, and the refusal says what to do', async () => {
  await configure({ ssl: 'on', hba: 'hostssl all all 127.0.0.1/32 trust' })
  for (const sslmode of ['', 'disable']) {
    expect(await seen({ sslmode })).toEqual(
      refusal('\\(28000\\)', 'the server refuses this user, or wants TLS or .*: set sslmode, .*no encryption'),
    )
  }
  for (const sslmode of ['allow', 'prefer', 'require']) expect(await seen({ sslmode })).toBe('TLS')
})

test('an empty database is migrated over TLS', async () => {
  await configure({ ssl: 'on', hba: 'hostssl all all 127.0.0.1/32 trust' })
  await admin.query('create database migrated')
  const verified = { sslmode: 'verify-full', sslrootcert: file('ca.crt') }
  expect(await seen({ ...verified, database: 'migrated' })).toBe('TLS')
})

test('a server without TLS is used by prefer and allow, and refused by require', async () => {
  await configure({ ssl: 'off', hba: 'host all all 127.0.0.1/32 trust' })
  for (const sslmode of ['allow', 'prefer']) expect(await seen({ sslmode })).toBe('plain')
  expect(await seen({ sslmode: 'require' })).toEqual(refusal('', 'the server has no TLS: .* sslmode=disable'))
})

test('a server that wants a client certificate gets that of sslcert', async () => {
  await configure({ ssl: 'on', hba: 'hostssl all all 127.0.0.1/32 cert' })
  const verified = { sslmode: 'verify-full', sslrootcert: file('ca.crt') }
  const certified = (name: string) => ({ ...verified, sslcert: file(`${name}.crt`), sslkey: file(`${name}.key`) })
  expect(await seen(certified('client'))).toBe('TLS /CN=behalf')
  expect(await seen(verified)).toEqual(refusal('\\(28000\\)', '.*sslcert and sslkey.*'))
  // The server closes the connection as it says so, and then its reset may arrive first.
  expect(await seen(certified('foreign'))).toEqual(
    refusal('\\((ERR_SSL_TLSV1_ALERT_UNKNOWN_CA|ECONNRESET|EPIPE)\\)', ''),
  )
})

test('a password is bound to the server’s certificate: it cannot be used through an interceptor', async () => {
  await configure({ ssl: 'on', hba: 'host all all 127.0.0.1/32 scram-sha-256' })
  await admin.query("alter role behalf password 's3cret'")
  const parameters = { user: 'behalf:s3cret', sslmode: 'require' }
  expect(await seen(parameters)).toBe('TLS')
  expect(await seen({ user: 'behalf:s3cret' })).toBe('plain')
  expect(await seen({ ...parameters, port: await startInterceptor() })).toEqual(
    refusal('\\(28000\\)', '.*SCRAM channel binding check failed.*'),
  )
  expect(await seen({ ...parameters, user: 'behalf:wrong' })).toEqual(refusal('\\(28P01\\)', 'the server refuses .*'))
})
