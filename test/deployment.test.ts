import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { loadConfig, SETTINGS } from '../src/config.ts'
import { SHUTDOWN_TIMING } from '../src/shutdown.ts'

type Env = Record<string, string>

const text = (path: string) => readFileSync(fileURLToPath(new URL(`../${path}`, import.meta.url)), 'utf8')
const compose = parse(text('compose.yaml'), { merge: true })
const documents = parseAllDocuments(text('docs/kubernetes.yaml')).map((document) => document.toJS())
const pod = documents.find(({ kind }) => kind === 'Deployment').spec.template.spec
const podEnv: Env = Object.fromEntries(
  pod.containers[0].env.map(({ name, value }: { name: string; value: string }) => [name, value]),
)
/** What compose.yaml's first lines export. */
const exported: Env = Object.fromEntries(
  [...text('compose.yaml').matchAll(/(\w+_URL)=(\S+)/g)].map(([, name, value]) => [name, value]),
)
const composeEnv: Env = Object.fromEntries(
  Object.entries(compose.services.behalf.environment as Env).map(([name, value]) => [
    name,
    value.replace(/\$\{(\w+)[^}]*\}/g, (_, variable: string) => exported[variable] ?? ''),
  ]),
)

// The examples are files that no engine reads here: what they say of the service is held to the service.
describe('compose.yaml and docs/kubernetes.yaml', () => {
  let folder: string

  /** The commands that compose.yaml's first lines give, without the two that need an engine. */
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'behalf-deployment-'))
    const commands = text('compose.yaml')
      .split('\n')
      .filter((line) => line.startsWith('#   ') && !/docker|export/.test(line))
      .map((line) => line.slice(4).replace(/ && chown .*/, ''))
    execFileSync('sh', ['-euc', commands.join('\n')], { cwd: folder })
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('the commands make every secret that compose.yaml names, readable to its owner alone', () => {
    const files = Object.values(compose.secrets as Record<string, { file: string }>).map(({ file }) => file)
    expect(readdirSync(join(folder, 'secrets')).sort()).toEqual(files.map((file) => basename(file)).sort())
    for (const file of files) expect(statSync(join(folder, file)).mode & 0o777).toBe(0o600)
    const read = (name: string) => readFileSync(join(folder, 'secrets', name), 'utf8').trim()
    expect(read('database-url')).toBe(`postgres://behalf:${read('postgres')}@postgres/behalf`)
    expect(parse(read('livekit-keys'))).toEqual({ behalf: read('livekit'), webhook: read('webhook') })
  })

  test.each([
    ['compose.yaml', composeEnv],
    ['docs/kubernetes.yaml', podEnv],
  ])('%s has settings that production accepts, with two key pairs from files', (_, env) => {
    expect(Object.keys(env).filter((name) => !SETTINGS.includes(name))).toEqual([])
    expect(basename(env.DATABASE_URL_FILE ?? '')).toBe('database-url')
    const here = Object.fromEntries(
      Object.entries(env)
        .filter(([name]) => name !== 'DATABASE_URL_FILE')
        .map(([name, value]) => [name, name.endsWith('_FILE') ? join(folder, 'secrets', basename(value)) : value]),
    )
    const { secrets, warnings } = loadConfig({ NODE_ENV: 'production', ...here })
    expect(warnings).toEqual([])
    expect(secrets.livekit.secret).not.toBe(secrets.webhook.secret)
  })

  test('every secret of a service is one that compose.yaml mounts for it', () => {
    const { secrets } = compose.services.behalf
    const named = Object.values(composeEnv).filter((value) => value.startsWith('/run/secrets/'))
    expect(named.map((path) => basename(path)).sort()).toEqual([...secrets].sort())
  })

  test('the engine waits for longer than the service may take to stop', () => {
    expect(Number.parseInt(compose.services.behalf.stop_grace_period, 10) * 1000).toBeGreaterThan(
      SHUTDOWN_TIMING.hardExit,
    )
    expect(pod.terminationGracePeriodSeconds * 1000).toBeGreaterThan(SHUTDOWN_TIMING.hardExit)
  })

  test('an instance that stops is out of the balancer before it closes its port', () => {
    const { periodSeconds, failureThreshold, httpGet } = pod.containers[0].readinessProbe
    expect(httpGet.path).toBe('/health/ready')
    expect(periodSeconds * failureThreshold * 1000).toBeLessThan(SHUTDOWN_TIMING.notice)
  })

  test.each(Object.keys(compose.services))('compose.yaml drops the rights of %s', (name) => {
    expect(compose.services[name]).toMatchObject({
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
    })
  })

  test('LiveKit signs its webhooks with the pair that only it and the service know', () => {
    const livekit = parse(compose.configs.livekit.content)
    expect(livekit.webhook.api_key).toBe(composeEnv.LIVEKIT_WEBHOOK_API_KEY)
    expect(livekit.webhook.urls).toEqual(['http://behalf:8008/livekit/webhook'])
    expect(compose.services.livekit.ports).toContain(`${livekit.rtc.udp_port}:${livekit.rtc.udp_port}/udp`)
  })
})
