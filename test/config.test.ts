import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, describe, expect, test } from 'vitest'
import { ConfigError, databaseUrlOf, loadConfig } from '../src/config.ts'

const SECRET = 'a-livekit-secret-of-32-characters'
const WEBHOOK_SECRET = 'another-livekit-secret-for-webhooks'
const METRICS_TOKEN = 'a-token-for-metrics-of-32-characters'
const PRODUCTION = {
  NODE_ENV: 'production',
  PUBLIC_URL: 'https://api.example.com',
  LIVEKIT_URL: 'wss://livekit.example.com',
  LIVEKIT_API_KEY: 'APIkey',
  LIVEKIT_API_SECRET: SECRET,
}

function problemsOf(env: Record<string, string | undefined>): string[] {
  try {
    loadConfig(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

describe('development settings', () => {
  test('are complete without any setting, and warn about the well-known LiveKit key pair', () => {
    const { config, secrets, warnings } = loadConfig({})
    expect(config).toMatchObject({
      production: false,
      host: '127.0.0.1',
      port: 8008,
      publicUrl: 'http://localhost:8008',
      databaseUrl: 'file:./data/behalf.db',
      livekitUrl: 'ws://127.0.0.1:7880',
      corsOrigins: 'local',
      guests: true,
      roomPolicy: 'owner',
    })
    expect(secrets).toEqual({
      livekit: { key: 'devkey', secret: 'secret' },
      webhook: { key: 'devkey', secret: 'secret' },
    })
    expect(warnings.join()).toContain('devkey')
    expect(loadConfig({ LIVEKIT_API_KEY: 'mine', LIVEKIT_API_SECRET: 'short' }).warnings).toEqual([])
  })

  test('treat an empty setting as unset', () => {
    const empty = { PORT: '', DEFAULT_AGENT: '', LIVEKIT_API_KEY: '', LIVEKIT_API_SECRET: '', CORS_ORIGINS: '' }
    expect(loadConfig(empty)).toEqual(loadConfig({}))
  })

  test('derive the issuer from the port', () => {
    expect(loadConfig({ PORT: '9000' }).config.publicUrl).toBe('http://localhost:9000')
    expect(loadConfig({ PUBLIC_URL: 'http://host:1/base//' }).config.publicUrl).toBe('http://host:1/base')
  })
})

test.each(['prod', 'Production', 'staging'])('do not apply with NODE_ENV=%s', (name) => {
  expect(problemsOf({ NODE_ENV: name })).toEqual([expect.stringContaining('NODE_ENV')])
})

describe('configuration problems', () => {
  test('are listed in one message, one line each', () => {
    const env = {
      PORT: 'eighty',
      PUBLIC_URL: 'ftp://example.com',
      DATABASE_URL: 'mysql://x',
      LIVEKIT_URL: 'not a url',
      GUESTS: 'maybe',
      DEMO: 'perhaps',
      ROOM_POLICY: 'anarchy',
      LIVENESS_SECONDS: '0',
      RECONNECT_SECONDS: '1.5',
      LOG_LEVEL: 'loud',
    }
    const problems = problemsOf(env)
    expect(problems.map((problem) => problem.split(':')[0]).sort()).toEqual(Object.keys(env).sort())
    const message = new ConfigError(problems).message
    for (const problem of problems) expect(message).toContain(`\n  - ${problem}`)
  })

  test('of production are all listed at once: no protective setting has a default (A48)', () => {
    const problems = problemsOf({ NODE_ENV: 'production' }).join('\n')
    for (const name of ['PUBLIC_URL', 'LIVEKIT_URL', 'LIVEKIT_API_KEY', 'LIVEKIT_API_SECRET']) {
      expect(problems).toContain(name)
    }
    expect(problemsOf({ NODE_ENV: 'production' })).toHaveLength(3)
  })

  test('of single values and of contradictions between them are listed together', () => {
    const problems = problemsOf({ ...PRODUCTION, PORT: 'eighty', LIVEKIT_API_SECRET: 'short' })
    expect(problems.map((problem) => problem.split(':')[0])).toEqual(['PORT', 'LIVEKIT_API_SECRET'])
  })

  test('never contain a secret', () => {
    const env = { ...PRODUCTION, LIVEKIT_API_SECRET: 'hunter2', LIVEKIT_WEBHOOK_API_SECRET: 'hunter3' }
    expect(problemsOf(env).length).toBeGreaterThan(1)
    expect(problemsOf(env).join()).not.toMatch(/hunter/)
  })
})

describe('production settings', () => {
  test('are accepted when complete, with guests and other origins disabled', () => {
    const { config, warnings } = loadConfig(PRODUCTION)
    expect(config).toMatchObject({ production: true, guests: false, corsOrigins: [], host: '127.0.0.1' })
    expect(warnings).toEqual([])
    expect(loadConfig({ ...PRODUCTION, GUESTS: 'on' }).config.guests).toBe(true)
    expect([config.demo, loadConfig({ ...PRODUCTION, DEMO: 'on' }).config.demo]).toEqual([false, true])
  })

  test.each([
    ['a public URL that is not https', { PUBLIC_URL: 'http://api.example.com' }, 'PUBLIC_URL'],
    ['no public URL', { PUBLIC_URL: undefined }, 'PUBLIC_URL'],
    ['a public URL with a query', { PUBLIC_URL: 'https://api.example.com/?a=b' }, 'PUBLIC_URL'],
    ['no LiveKit', { LIVEKIT_URL: undefined }, 'LIVEKIT_URL'],
    ['the development key', { LIVEKIT_API_KEY: 'devkey' }, 'LIVEKIT_API_KEY'],
    ['a LiveKit that is reached without TLS', { LIVEKIT_URL: 'ws://livekit.example.com' }, 'LIVEKIT_URL'],
    ['a LiveKit at a public address without TLS', { LIVEKIT_URL: 'http://203.0.113.9:7880' }, 'LIVEKIT_URL'],
    ['a secret of 31 characters', { LIVEKIT_API_SECRET: SECRET.slice(0, 31) }, 'LIVEKIT_API_SECRET'],
    [
      'a secret of 32 characters with white space',
      { LIVEKIT_API_SECRET: `${SECRET.slice(0, 31)}\n` },
      'LIVEKIT_API_SECRET',
    ],
    ['a secret of one character', { LIVEKIT_API_SECRET: 's'.repeat(40) }, 'openssl rand'],
    ['a secret of one word again and again', { LIVEKIT_API_SECRET: '0123456789abcde-'.repeat(3) }, 'openssl rand'],
    ['a secret from an example', { LIVEKIT_API_SECRET: 'replace-me-with-thirty-two-characters' }, 'openssl rand'],
    ['a key without its secret', { LIVEKIT_API_SECRET: undefined }, 'LIVEKIT_API_KEY and LIVEKIT_API_SECRET'],
    ['a secret without its key', { LIVEKIT_API_KEY: undefined }, 'LIVEKIT_API_KEY and LIVEKIT_API_SECRET'],
    ['half a webhook pair', { LIVEKIT_WEBHOOK_API_KEY: 'APIhook' }, 'LIVEKIT_WEBHOOK_API_KEY and'],
    [
      'a short webhook secret',
      { LIVEKIT_WEBHOOK_API_KEY: 'APIhook', LIVEKIT_WEBHOOK_API_SECRET: 'short' },
      'LIVEKIT_WEBHOOK_API_SECRET',
    ],
  ])('refuse %s (A09)', (_, change, name) => {
    const problems = problemsOf({ ...PRODUCTION, ...change })
    expect(problems).toHaveLength(1)
    expect(problems[0]).toContain(name)
  })

  test('accept the shortest secret allowed (A09)', () => {
    expect(problemsOf({ ...PRODUCTION, LIVEKIT_API_SECRET: SECRET.slice(0, 32) })).toEqual([])
    expect(problemsOf({ ...PRODUCTION, LIVEKIT_API_SECRET: '8f14e45fceea167a5a36dedd4bea2543' })).toEqual([])
  })

  test.each([
    'ws://livekit:7880',
    'ws://10.1.2.3:7880',
    'http://livekit.prod.svc.cluster.local:7880',
    'ws://[fd00::1]:7880',
  ])('accept LiveKit without TLS on a private network: %s', (url) => {
    expect(problemsOf({ ...PRODUCTION, LIVEKIT_URL: url })).toEqual([])
  })

  test('normalise origins to what browsers send', () => {
    const typed =
      'https://a.example, HTTPS://B.example:443/ ,http://c.example:8080,https://*.D.example.com,capacitor://localhost'
    expect(loadConfig({ ...PRODUCTION, CORS_ORIGINS: typed }).config.corsOrigins).toEqual([
      'https://a.example',
      'https://b.example',
      'http://c.example:8080',
      'https://*.d.example.com',
      'capacitor://localhost',
    ])
  })
})

describe('secret settings', () => {
  test('never appear in the loggable settings (A46)', () => {
    const webhook = { LIVEKIT_WEBHOOK_API_KEY: 'APIhook', LIVEKIT_WEBHOOK_API_SECRET: WEBHOOK_SECRET }
    const { config, secrets, warnings } = loadConfig({ ...PRODUCTION, ...webhook })
    expect(secrets).toEqual({
      livekit: { key: 'APIkey', secret: SECRET },
      webhook: { key: 'APIhook', secret: WEBHOOK_SECRET },
    })
    const logged = JSON.stringify({ config, warnings })
    for (const secret of [SECRET, WEBHOOK_SECRET]) expect(logged).not.toContain(secret)
  })

  test('for webhooks default to the main key pair', () => {
    expect(loadConfig(PRODUCTION).secrets.webhook).toEqual({ key: 'APIkey', secret: SECRET })
  })
})

describe('a setting', () => {
  test('has the same value for every reader: white space at its ends is dropped', () => {
    const padded = Object.fromEntries(Object.entries(PRODUCTION).map(([name, value]) => [name, ` ${value}\r\n`]))
    expect(loadConfig(padded)).toEqual(loadConfig(PRODUCTION))
    expect(loadConfig({ DATABASE_URL: 'file:x.db\r' }).config.databaseUrl).toBe('file:x.db')
    expect(loadConfig({ PORT: ' ' })).toEqual(loadConfig({}))
  })

  test.each([
    ['PORT', '99999', 'PORT: must be a whole number from 0 to 65535'],
    ['LIVENESS_SECONDS', '-1', 'LIVENESS_SECONDS: must be a whole number from 1 to 60'],
    ['RECONNECT_SECONDS', '1e2', 'RECONNECT_SECONDS: must be a whole number from 1 to 3600'],
    ['LIVEKIT_URL', 'ws://livekit\r.example.com', 'LIVEKIT_URL: must be a single line without control characters'],
    [
      'DATABASE_URL',
      'file:./x.db?mode=ro',
      /^DATABASE_URL: must be file:<path> \(SQLite\), .* without a host, ~, \? or #;/,
    ],
    ['DATABASE_URL', 'postgres://x/y?sslmode=verify_full', /; sslmode is disable, .* or verify-full$/],
    ['DATABASE_URL', 'file: ./x.db', /^DATABASE_URL: must be file:<path>/],
    ['DATABASE_URL', 'file://data/x.db', /^DATABASE_URL: must be file:<path>/],
    ['DATABASE_URL', 'file:~/x.db', /^DATABASE_URL: must be file:<path>/],
    ['CORS_ORIGINS', '*', /^CORS_ORIGINS: must be origins such as https:\/\/app\.example\.com, .*; \* is not one$/],
    ['CORS_ORIGINS', 'https://a.example,app.example.com', /; app\.example\.com is not one$/],
    ['CORS_ORIGINS', 'https://a.example/app', /; https:\/\/a\.example\/app is not one$/],
    ['CORS_ORIGINS', 'https://*.com', /; https:\/\/\*\.com is not one$/],
    ['CORS_ORIGINS', 'https://a.*.example.com', /is not one$/],
    ['CORS_ORIGINS', 'localhost:3000', /is not one$/],
    ['CORS_ORIGINS', 'null', /is not one$/],
    ['LIVEKIT_WEBHOOK_API_SECRET', 'x', 'LIVEKIT_WEBHOOK_API_KEY and LIVEKIT_WEBHOOK_API_SECRET: set both or neither'],
  ])('that is wrong is answered by one sentence that says what to do: %s=%j', (name, value, sentence) => {
    expect(problemsOf({ [name]: value })).toEqual([
      typeof sentence === 'string' ? sentence : expect.stringMatching(sentence),
    ])
  })

  test.each([
    ['LIVENES_SECONDS', 'LIVENESS_SECONDS'],
    ['DATABASE_URI', 'DATABASE_URL'],
    ['livekit-url', 'LIVEKIT_URL'],
    ['LIVEKIT_APIKEY', 'LIVEKIT_API_KEY'],
  ])('whose name is nearly right is warned about: %s', (typed, meant) => {
    expect(loadConfig({ [typed]: '1' }).warnings[0]).toBe(`${typed} is not a setting: is ${meant} meant?`)
    expect(loadConfig({ ...PRODUCTION, LIVENESS_SECONDS: '9', DATABASE_URL: 'file:x', [typed]: '1' }).warnings).toEqual(
      [],
    )
  })

  test('of another program causes no warning', () => {
    const others = [
      'PATH',
      'HOME',
      'HOSTNAME',
      'PWD',
      'LIVEKIT_KEYS',
      'LIVEKIT_AGENT_NAME',
      'LOG_FORMAT',
      'REDIS_URL',
      '_',
    ]
    expect(loadConfig({ ...PRODUCTION, ...Object.fromEntries(others.map((name) => [name, 'x'])) }).warnings).toEqual([])
  })
})

describe('a secret from a file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'behalf-config-'))
  afterAll(() => rmSync(folder, { recursive: true }))
  const file = (name: string, content: string) => {
    writeFileSync(join(folder, name), content)
    return join(folder, name)
  }

  test('is read without the line end that editors add, and checked as any other', () => {
    const { LIVEKIT_API_SECRET: _, ...rest } = PRODUCTION
    expect(loadConfig({ ...rest, LIVEKIT_API_SECRET_FILE: file('a', `${SECRET}\r\n`) })).toEqual(loadConfig(PRODUCTION))
    const webhook = { LIVEKIT_WEBHOOK_API_KEY: 'APIhook', LIVEKIT_WEBHOOK_API_SECRET_FILE: file('b', WEBHOOK_SECRET) }
    expect(loadConfig({ ...PRODUCTION, ...webhook }).secrets.webhook.secret).toBe(WEBHOOK_SECRET)
    expect(problemsOf({ ...rest, LIVEKIT_API_SECRET_FILE: file('c', 'short') })).toEqual([
      'LIVEKIT_API_SECRET: must be at least 32 characters in production',
    ])
  })

  test('may be the database, also for commands that read nothing else', () => {
    const env = { ...PRODUCTION, DATABASE_URL_FILE: file('d', 'file:/data/behalf.db\n') }
    expect(loadConfig(env).config.databaseUrl).toBe('file:/data/behalf.db')
    expect(databaseUrlOf(env)).toBe('file:/data/behalf.db')
  })

  test.each([
    ['does not exist', () => join(folder, 'none'), /^LIVEKIT_API_SECRET_FILE: .*none cannot be read \(ENOENT\)$/],
    ['is a folder', () => folder, /^LIVEKIT_API_SECRET_FILE: .* cannot be read \(EISDIR\)$/],
    ['is empty', () => file('empty', '\n'), /^LIVEKIT_API_SECRET_FILE: .*empty is empty$/],
  ])('is refused by name when it %s', (_, path, sentence) => {
    const env = { ...PRODUCTION, LIVEKIT_API_SECRET: undefined, LIVEKIT_API_SECRET_FILE: path() }
    expect(problemsOf(env)).toEqual([expect.stringMatching(sentence)])
  })

  test.each([
    ['LIVEKIT_API_SECRET', SECRET],
    ['DATABASE_URL', 'file:./data/behalf.db'],
  ])('is refused beside %s itself: one of them would be ignored', (name, value) => {
    const env = { ...PRODUCTION, [name]: value, [`${name}_FILE`]: file(name, value) }
    expect(problemsOf(env)).toEqual([`${name} and ${name}_FILE: set one of them`])
  })

  test('can be the token for metrics', () => {
    const METRICS_TOKEN_FILE = file('metrics', `${METRICS_TOKEN}\n`)
    const { config, secrets } = loadConfig({ ...PRODUCTION, METRICS_TOKEN_FILE })
    expect(secrets.metrics).toBe(METRICS_TOKEN)
    expect(JSON.stringify(config)).not.toContain(METRICS_TOKEN)
    expect(problemsOf({ ...PRODUCTION, METRICS_TOKEN_FILE, METRICS_TOKEN })).toEqual([
      'METRICS_TOKEN and METRICS_TOKEN_FILE: set one of them',
    ])
  })
})

describe('metrics', () => {
  test('are off by default, and on a port of this machine alone with METRICS_PORT', () => {
    expect(loadConfig({}).secrets.metrics).toBeUndefined()
    expect(loadConfig({}).config.metricsPort).toBeUndefined()
    const { config } = loadConfig({ METRICS_PORT: '9464' })
    expect(config).toMatchObject({ metricsPort: 9464, metricsHost: '127.0.0.1' })
  })

  test.each([
    ['the port of the API', { METRICS_PORT: '8008' }, 'METRICS_PORT: must differ from PORT'],
    [
      'a port and a token',
      { METRICS_PORT: '9464', METRICS_TOKEN },
      expect.stringMatching(/^METRICS_PORT and METRICS_TOKEN: /),
    ],
    [
      'a token that no header can carry',
      { METRICS_TOKEN: 'with space' },
      expect.stringMatching(/^METRICS_TOKEN: must have only/),
    ],
    [
      'a short token in production',
      { ...PRODUCTION, METRICS_TOKEN: 'short' },
      expect.stringMatching(/^METRICS_TOKEN: .*32/),
    ],
    [
      'a token that can be guessed',
      { ...PRODUCTION, METRICS_TOKEN: 'changeme'.repeat(4) },
      expect.stringMatching(/guessed/),
    ],
  ])('refuse %s', (_, env, problem) => {
    expect(problemsOf(env)).toEqual([problem])
  })
})

describe('.env.example', () => {
  const repo = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
  const example = repo('.env.example')
  const settings = [...example.matchAll(/^# ?([A-Z][A-Z_]+)=(.*)$/gm)].map(([, name = '', value = '']) => ({
    name,
    value,
  }))

  test('lists every setting exactly once', () => {
    const names = [...repo('src/config.ts').matchAll(/^ {2}([A-Z][A-Z_]+): /gm)].map(([, name]) => name)
    expect(names).toContain('LIVEKIT_WEBHOOK_API_SECRET')
    expect(settings.map(({ name }) => name).sort()).toEqual(names.sort())
  })

  test('shows the default values', () => {
    const shown = Object.fromEntries(settings.map(({ name, value }) => [name, value]))
    expect(loadConfig(shown)).toEqual({ ...loadConfig({}), warnings: [] })
  })

  test('sets nothing', () => {
    for (const line of example.split('\n')) expect(line).toMatch(/^(#|$)/)
  })
})

test('the service does not start in production without its settings, and lists all that are missing', async () => {
  const server = fileURLToPath(new URL('../dist/server.js', import.meta.url))
  const start = promisify(execFile)(process.execPath, [server], { env: { NODE_ENV: 'production' }, timeout: 20_000 })
  const { code, stderr, stdout } = await start.then(
    () => ({ code: 0, stderr: '', stdout: '' }),
    (failed: { code: number; stderr: string; stdout: string }) => failed,
  )
  expect(code).toBe(1)
  for (const problem of problemsOf({ NODE_ENV: 'production' })) expect(stderr).toContain(problem)
  expect(stderr).not.toMatch(/\n\s+at /)
  expect(stdout).toBe('')
}, 30_000)

describe('the settings of store commands', () => {
  test('need only the database, also in production', () => {
    expect(databaseUrlOf({})).toBe('file:./data/behalf.db')
    expect(databaseUrlOf({ DATABASE_URL: '' })).toBe('file:./data/behalf.db')
    expect(databaseUrlOf({ NODE_ENV: 'production', DATABASE_URL: 'file:x.db', PORT: 'y' })).toBe('file:x.db')
  })

  test.each([{ DATABASE_URL: 'postgres://x' }, { DATABASE_URL: 'file:' }, { NODE_ENV: 'prod' }])(
    'refuse a bad database as the service does: %j',
    (env) => {
      const problems = problemsOf(env)
      expect(problems).toHaveLength(1)
      expect(() => databaseUrlOf(env)).toThrow(new ConfigError(problems))
    },
  )
})
