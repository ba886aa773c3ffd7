import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { agentClient, type ProblemError } from '#client'
import { agentPython, PYTHON_PACKAGE } from './binaries.ts'
import { output } from './processes.ts'

// What the clients in TypeScript and Python do on each answer: the same.

const PAIR = { userId: 'user_1', sessionId: 'sess_1' }
const ACCOUNT = { id: 'tutor', secret: 'its secret' }

type Respond = (response: ServerResponse) => void

const json =
  (status: number, body: unknown, headers: Record<string, string> = {}): Respond =>
  (response) =>
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body))
const token = (value: string) => json(200, { access_token: value, expires_in: 900 })
const problem = (status: number, code: string, retryAfter = '1') =>
  json(status, { code, detail: 'Why.' }, { 'Retry-After': retryAfter })
const context = json(200, { user: { id: PAIR.userId, name: 'Ada' } })
const cut: Respond = (response) => response.destroy()
const proxy: Respond = (response) =>
  response.writeHead(503, { 'Content-Type': 'text/html', 'Retry-After': 'Wed, 21 Oct 2015 07:28:00 GMT' }).end('<p>')

/** Answers each path from its script, repeating the last answer; records the requests. */
function service() {
  const script: Record<string, Respond[]> = {}
  const asked: string[] = []
  const keys = new Set<unknown>()
  const server = createServer((request, response) => {
    const path = String(request.url).replace(/\?.*/, '')
    const left = script[path] ?? []
    const [next] = left.length > 1 ? left.splice(0, 1) : left
    // A secret comes by Basic or in the form.
    const { authorization = 'Basic' } = request.headers
    asked.push(`${path} ${authorization.replace(/^Basic.*/, 'secret')}`)
    if (path === '/agent/context') keys.add(request.headers['idempotency-key'])
    request.resume().on('end', () => (next ? next(response) : json(404, {})(response)))
  })
  return { script, asked, keys, server, url: () => `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

let s: ReturnType<typeof service>
beforeEach(async () => {
  s = service()
  await new Promise<void>((resolve) => s.server.listen(0, '127.0.0.1', resolve))
})
afterEach(() => {
  s.server.closeAllConnections()
  s.server.close()
})

/** The user's name, or why it is refused. */
async function inTypeScript(url: string): Promise<string> {
  const agent = agentClient({ url, ...ACCOUNT, notLivePatienceMs: 15_000, unavailablePatienceMs: 90_000 })
  return agent.context(PAIR).then(
    ({ user }) => String(user.name),
    ({ status, code, detail }: ProblemError) => `Refused: ${status} ${code}: ${detail}`,
  )
}

const PYTHON = `import asyncio
from behalf import AgentClient, Pair, ProblemError
async def main():
    async with AgentClient(not_live_patience=15, unavailable_patience=90) as behalf:
        try:
            print((await behalf.session(Pair("${PAIR.userId}", "${PAIR.sessionId}")).context())["user"]["name"])
        except ProblemError as problem:
            print(f"Refused: {problem.status} {problem.code}: {problem.detail}")
asyncio.run(main())`

async function inPython(url: string): Promise<string> {
  const env = { BEHALF_URL: url, BEHALF_AGENT_ID: ACCOUNT.id, BEHALF_AGENT_SECRET: ACCOUNT.secret }
  const printed = await output(agentPython() ?? '', ['-B', '-c', PYTHON], { cwd: PYTHON_PACKAGE, env })
  return printed.trim()
}

describe.each([
  ['the client in TypeScript', true, inTypeScript],
  ['the client in Python', agentPython() !== undefined, inPython],
])('%s', (_, isHere, ask) => {
  describe.skipIf(!isHere)('calling back', () => {
    test('retries the token request after a temporary failure', async () => {
      s.script['/agent/token'] = [problem(503, 'store_unavailable'), problem(429, 'rate_limited'), cut, token('one')]
      s.script['/agent/context'] = [context]
      expect(await ask(s.url())).toBe('Ada')
      expect(s.asked).toEqual([...Array(4).fill('/agent/token secret'), '/agent/context Bearer one'])
    })

    test('stops after a refused secret', async () => {
      s.script['/agent/token'] = [json(401, { error: 'invalid_client', error_description: 'Unknown.' })]
      expect(await ask(s.url())).toMatch(/^Refused: 401 invalid_client: /)
      expect(s.asked).toEqual(['/agent/token secret'])
    })

    test('gets a new token when its token is refused', async () => {
      s.script['/agent/token'] = [token('one'), token('two')]
      s.script['/agent/context'] = [problem(401, 'invalid_token'), context]
      expect(await ask(s.url())).toBe('Ada')
      expect(s.asked).toEqual([
        '/agent/token secret',
        '/agent/context Bearer one',
        '/agent/token secret',
        '/agent/context Bearer two',
      ])
    })

    test('stops when the new token is refused as well', async () => {
      s.script['/agent/token'] = [token('one'), token('two')]
      s.script['/agent/context'] = [problem(401, 'invalid_token')]
      expect(await ask(s.url())).toBe('Refused: 401 invalid_token: Why.')
      expect(s.asked).toHaveLength(4)
    })

    test('retries with the same key after 429, no answer or a proxy’s answer', async () => {
      s.script['/agent/token'] = [token('one')]
      s.script['/agent/context'] = [problem(429, 'rate_limited'), cut, proxy, context]
      expect(await ask(s.url())).toBe('Ada')
      expect(s.asked).toEqual(['/agent/token secret', ...Array(4).fill('/agent/context Bearer one')])
      expect(s.keys.size).toBe(1)
    })

    test('waits for Retry-After, and gives up in the end', async () => {
      s.script['/agent/token'] = [token('one')]
      s.script['/agent/context'] = [problem(429, 'rate_limited', '600')]
      expect(await ask(s.url())).toBe('Refused: 429 rate_limited: Why.')
      s.script['/agent/context'] = [problem(409, 'session_not_live', '16')]
      expect(await ask(s.url())).toBe('Refused: 409 session_not_live: Why.')
    })
  })
})
