import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { describe, expect, it } from 'vitest'
import { type AgentCredentials, agentAccounts } from '../src/agents/accounts.ts'
import { SCOPES, type Scope } from '../src/agents/agent.ts'
import { agentToken, basic, fieldsOf, GRANT, guardedRoute, requestToken, tokenAnswer } from './agent-client.ts'
import { makeApp } from './support.ts'

const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' }
const MINUTE_MS = 60_000
const INVALID_CLIENT = { error: 'invalid_client', error_description: 'Client authentication failed.' }

/** An app with one agent account. */
async function appWithAgent(scopes: readonly Scope[] = SCOPES) {
  const test = await makeApp()
  const accounts = agentAccounts({ agents: test.store.agents, now: test.clock.now })
  return { ...test, test, accounts, agent: await accounts.create('tutor', scopes) }
}

const inForm = ({ id, secret }: AgentCredentials) => ({ client_id: id, client_secret: secret })

async function refusal(answer: Response) {
  expect(answer.headers.get('Content-Type')).toMatch(/^application\/json/)
  expect(answer.headers.get('Cache-Control')).toBe('no-store')
  expect(answer.headers.get('Pragma')).toBe('no-cache')
  return { status: answer.status, ...(await fieldsOf(answer)) }
}

describe('POST /agent/token', () => {
  it('gives a token to a secret in HTTP Basic, with no refresh token and nothing to be stored (A11)', async () => {
    const { app, agent } = await appWithAgent()
    const answer = await requestToken(app, GRANT, basic(agent.id, agent.secret))
    expect(answer.status).toBe(200)
    expect(answer.headers.get('Cache-Control')).toBe('no-store')
    expect(answer.headers.get('Pragma')).toBe('no-cache')
    expect(await answer.json()).toEqual({
      access_token: expect.any(String),
      token_type: 'Bearer',
      expires_in: 900,
      scope: 'progress:write context:read session:end rooms:join',
    })
  })

  it('gives a token to a secret in the form, and to a charset in the content type', async () => {
    const { app, agent } = await appWithAgent()
    const headers = { 'Content-Type': 'Application/X-WWW-Form-URLEncoded; charset=UTF-8' }
    expect((await requestToken(app, { ...GRANT, ...inForm(agent) }, headers)).status).toBe(200)
  })

  it('decodes the form-urlencoded parts of HTTP Basic', async () => {
    const { app, agent } = await appWithAgent()
    const escaped = [...agent.id].map((letter) => `%${letter.charCodeAt(0).toString(16)}`).join('')
    const Authorization = `basic ${Buffer.from(`${escaped}:${agent.secret}`).toString('base64')}`
    expect((await requestToken(app, GRANT, { Authorization })).status).toBe(200)
  })

  it('issues an RFC 9068 token for the agent audience that lives 15 minutes', async () => {
    const { app, agent, config, clock } = await appWithAgent()
    const token = await agentToken(app, agent)
    const claims = decodeJwt(token)
    expect(decodeProtectedHeader(token)).toMatchObject({ alg: 'ES256', typ: 'at+jwt', kid: expect.any(String) })
    expect(claims).toMatchObject({
      iss: config.publicUrl,
      aud: `${config.publicUrl}/agent`,
      sub: agent.id,
      client_id: agent.id,
      scope: SCOPES.join(' '),
      jti: expect.any(String),
      iat: Math.floor(clock.now() / 1000),
    })
    expect(Number(claims.exp) - Number(claims.iat)).toBe(900)
  })

  it('narrows the scope to what was asked for', async () => {
    const { app, agent } = await appWithAgent()
    const form = { ...GRANT, ...inForm(agent), scope: 'session:end progress:write' }
    const answer = await tokenAnswer(await requestToken(app, form))
    expect(answer.scope).toBe('progress:write session:end')
    expect(decodeJwt(answer.access_token).scope).toBe('progress:write session:end')
  })

  it.each([
    'session:end',
    'progress:write session:end',
    'everything',
    'progress:write  progress:write',
    'PROGRESS:WRITE',
  ])('refuses the scope "%s" of an agent that has only progress:write (A22)', async (scope) => {
    const { app, agent } = await appWithAgent(['progress:write'])
    const answer = await requestToken(app, { ...GRANT, ...inForm(agent), scope })
    expect(await refusal(answer)).toMatchObject({ status: 400, error: 'invalid_scope' })
  })

  it('ignores unknown parameters and treats one without a value as left out (A14)', async () => {
    const { app, agent } = await appWithAgent()
    const form = { ...GRANT, ...inForm(agent), audience: 'x', scope: '' }
    const answer = await requestToken(app, form)
    expect((await tokenAnswer(answer)).scope).toBe(SCOPES.join(' '))
  })

  it.each([
    ['JSON', 'application/json', JSON.stringify(GRANT)],
    ['multipart', 'multipart/form-data; boundary=x', '--x--'],
    ['a look-alike', 'application/x-www-form-urlencodedx', 'grant_type=client_credentials'],
    ['no content type', '', 'grant_type=client_credentials'],
  ])('refuses %s as invalid_request (A11)', async (_, type, body) => {
    const { app, agent } = await appWithAgent()
    const headers = new Headers(basic(agent.id, agent.secret))
    if (type) headers.set('Content-Type', type)
    const answer = await app.request('/agent/token', { method: 'POST', headers, body: new TextEncoder().encode(body) })
    expect(await refusal(answer)).toMatchObject({ status: 400, error: 'invalid_request' })
  })

  it.each([
    ['a repeated grant_type', 'grant_type=client_credentials&grant_type=client_credentials', 'invalid_request'],
    ['a repeated scope', 'grant_type=client_credentials&scope=session:end&scope=context:read', 'invalid_request'],
    ['a repeated unknown parameter', 'grant_type=client_credentials&x=1&x=2', 'invalid_request'],
    ['a repeat that is escaped', 'grant_type=client_credentials&scope=session:end&s%63ope=', 'invalid_request'],
    ['no grant_type', 'scope=session:end', 'invalid_request'],
    ['an empty grant_type', 'grant_type=', 'invalid_request'],
    ['an empty body', '', 'invalid_request'],
    ['another grant', 'grant_type=password&username=a&password=b', 'unsupported_grant_type'],
    ['the grant of another case', 'grant_type=Client_Credentials', 'unsupported_grant_type'],
  ])('refuses %s (A13, A14, A21)', async (_, form, error) => {
    const { app, agent } = await appWithAgent()
    const answer = await requestToken(app, form, basic(agent.id, agent.secret))
    expect(await refusal(answer)).toMatchObject({ status: 400, error, error_description: expect.any(String) })
  })

  it('refuses two ways of client authentication at once', async () => {
    const { app, agent } = await appWithAgent()
    const both = await requestToken(app, { ...GRANT, ...inForm(agent) }, basic(agent.id, agent.secret))
    expect(await refusal(both)).toMatchObject({ status: 400, error: 'invalid_request' })
    const other = await requestToken(app, { ...GRANT, client_id: 'other' }, basic(agent.id, agent.secret))
    expect(await refusal(other)).toMatchObject({ status: 400, error: 'invalid_request' })
  })

  it('refuses credentials in the URL (A14)', async () => {
    const { app, agent } = await appWithAgent()
    const query = new URLSearchParams({ ...GRANT, ...inForm(agent) })
    const init = { method: 'POST', headers: FORM, body: 'grant_type=client_credentials' }
    const answer = await app.request(`/agent/token?${query}`, init)
    expect(await refusal(answer)).toMatchObject({ status: 400, error: 'invalid_request' })
  })

  it('answers an unknown agent, a wrong secret, a disabled agent and a missing secret all the same (A13)', async () => {
    const { app, agent, accounts } = await appWithAgent()
    const disabled = await accounts.create('retired', SCOPES)
    await accounts.disable(disabled.id)
    const answers = await Promise.all([
      requestToken(app, GRANT, basic('nobody', agent.secret)),
      requestToken(app, GRANT, basic(agent.id, 'wrong')),
      requestToken(app, GRANT, basic(agent.id, '')),
      requestToken(app, GRANT, basic(disabled.id, disabled.secret)),
      requestToken(app, GRANT, basic(disabled.id, agent.secret)),
      requestToken(app, { ...GRANT, client_id: agent.id, client_secret: 'wrong' }),
      requestToken(app, { ...GRANT, client_id: agent.id }),
      requestToken(app, GRANT),
    ])
    for (const answer of answers) {
      expect(answer.headers.get('WWW-Authenticate')).toBe('Basic realm="behalf"')
      expect(await refusal(answer)).toEqual({ status: 401, ...INVALID_CLIENT })
    }
  })

  it.each([
    ['another scheme', 'Bearer abc'],
    ['no base64', 'Basic ?'],
    ['no colon', `Basic ${Buffer.from('tutor').toString('base64')}`],
    ['a broken escape', `Basic ${Buffer.from('tutor:%zz').toString('base64')}`],
    ['two headers in one', 'Basic dHV0b3I6YQ==, Basic dHV0b3I6YQ=='],
    ['an empty header', ''],
  ])('refuses an Authorization header with %s as invalid_client', async (_, Authorization) => {
    const { app } = await appWithAgent()
    const answer = await requestToken(app, GRANT, { Authorization })
    expect(answer.headers.get('WWW-Authenticate')).toBe('Basic realm="behalf"')
    expect(await refusal(answer)).toEqual({ status: 401, ...INVALID_CLIENT })
  })

  it('refuses a form of more than 8 KiB', async () => {
    const { app, agent } = await appWithAgent()
    const answer = await requestToken(app, { ...GRANT, x: 'x'.repeat(9000) }, basic(agent.id, agent.secret))
    expect(answer.status).toBe(413)
    expect(await answer.json()).toMatchObject({ code: 'body_too_large' })
  })

  it('answers 503 when the store cannot be read, never that the client is wrong', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'behalf-agents-'))
    const file = join(folder, 'x.db')
    const { app, store } = await makeApp({ databaseUrl: `file:${file}` })
    try {
      new Database(file).exec('drop table agents').close()
      const answer = await requestToken(app, GRANT, basic('tutor', 'secret'))
      expect(answer.status).toBe(503)
      expect(await answer.json()).toMatchObject({ code: 'store_unavailable' })
    } finally {
      await store.close()
      rmSync(folder, { recursive: true })
    }
  })
})

describe('agent accounts', () => {
  it('give a secret of 256 random bits and store only its SHA-256', async () => {
    const { agent, accounts, store } = await appWithAgent()
    expect(Buffer.from(agent.secret, 'base64url')).toHaveLength(32)
    const stored = await store.agents.findAgent(agent.id)
    expect(stored?.secretHash).toBe(createHash('sha256').update(agent.secret).digest('hex'))
    expect(JSON.stringify(stored)).not.toContain(agent.secret)
    expect(JSON.stringify(await accounts.list())).not.toContain(stored?.secretHash)
  })

  it('refuse a name that was used before, also by a disabled agent', async () => {
    const { accounts } = await appWithAgent()
    await expect(accounts.create('tutor', SCOPES)).rejects.toMatchObject({ code: 'agent_exists' })
    await accounts.disable('tutor')
    await expect(accounts.create('tutor', SCOPES)).rejects.toMatchObject({ code: 'agent_exists' })
  })

  it('let only one of two simultaneous creations win', async () => {
    const { accounts } = await appWithAgent()
    const outcomes = await Promise.allSettled([accounts.create('twin', SCOPES), accounts.create('twin', SCOPES)])
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it.each(['', 'a', 'Tutor', '1st', 'user_1', 'agent-x', 'a b', 'ä'.repeat(3), `a${'b'.repeat(63)}`])(
    'refuse the name "%s"',
    async (name) => {
      const { accounts } = await appWithAgent()
      await expect(accounts.create(name, SCOPES)).rejects.toMatchObject({ code: 'agent_name_invalid' })
    },
  )

  it('say that an agent is unknown, to the operator only', async () => {
    const { accounts } = await appWithAgent()
    for (const verb of [accounts.disable, accounts.enable, accounts.rekey]) {
      await expect(verb('nobody')).rejects.toMatchObject({ name: 'AgentError', code: 'agent_not_found' })
    }
  })

  it('are made first only once', async () => {
    const { store, clock } = await makeApp()
    const accounts = agentAccounts({ agents: store.agents, now: clock.now })
    const made = await Promise.all([accounts.createFirst('dev'), accounts.createFirst('other')])
    expect(made).toEqual([{ id: 'dev', secret: expect.any(String), scopes: [...SCOPES] }, null])
    expect((await accounts.list()).map(({ id }) => id)).toEqual(['dev'])
  })

  it('that are disabled are refused, and welcome again once enabled, but for tokens from before', async () => {
    const { test, app, agent, accounts, clock } = await appWithAgent()
    const ask = guardedRoute(test, 'progress:write')
    const token = await agentToken(app, agent)
    expect(await ask(token)).toMatchObject({ status: 200, agent: 'tutor' })
    await accounts.disable(agent.id)
    const since = clock.now()
    expect(await ask(token)).toMatchObject({ status: 403, code: 'agent_disabled' })
    clock.advance(60)
    await accounts.disable(agent.id)
    expect(await accounts.list()).toMatchObject([{ id: 'tutor', disabledAt: since }])
    await accounts.enable(agent.id)
    expect(await ask(token)).toMatchObject({ status: 401, code: 'invalid_token' })
    const fresh = await agentToken(app, agent)
    expect(await ask(fresh)).toMatchObject({ status: 200 })
    // It was not disabled.
    await accounts.enable(agent.id)
    expect(await ask(fresh)).toMatchObject({ status: 200 })
  })

  it('that are rekeyed refuse the old secret and tokens issued before it', async () => {
    const { test, app, agent, accounts } = await appWithAgent(['progress:write'])
    const ask = guardedRoute(test, 'progress:write')
    const token = await agentToken(app, agent)
    const renewed = await accounts.rekey(agent.id)
    const secret = expect.any(String)
    expect(renewed).toEqual({ id: agent.id, secret, scopes: ['progress:write'], oldSecretUntil: null })
    expect(renewed.secret).not.toBe(agent.secret)
    expect(await ask(token)).toMatchObject({ status: 401, code: 'invalid_token' })
    expect((await requestToken(app, GRANT, basic(agent.id, agent.secret))).status).toBe(401)
    expect(await ask(await agentToken(app, renewed))).toMatchObject({ status: 200 })
  })

  it('that are rekeyed with an overlap take both secrets for so long, and tokens until they expire', async () => {
    const { test, app, agent, accounts, clock } = await appWithAgent(['progress:write'])
    const ask = guardedRoute(test, 'progress:write')
    const signIn = async ({ id, secret }: AgentCredentials) =>
      (await requestToken(app, GRANT, basic(id, secret))).status
    const token = await agentToken(app, agent)
    const renewed = await accounts.rekey(agent.id, 10 * MINUTE_MS)
    expect(renewed.oldSecretUntil).toBe(clock.now() + 10 * MINUTE_MS)
    expect(await accounts.list()).toMatchObject([{ oldSecretUntil: renewed.oldSecretUntil }])
    expect([await signIn(agent), await signIn(renewed)]).toEqual([200, 200])
    expect(await ask(token)).toMatchObject({ status: 200 })
    clock.advance(10 * 60 - 1)
    expect([await signIn(agent), await signIn(renewed)]).toEqual([200, 200])
    clock.advance(1)
    expect([await signIn(agent), await signIn(renewed)]).toEqual([401, 200])
    expect(await ask(token)).toMatchObject({ status: 200 })
    expect(await accounts.list()).toMatchObject([{ oldSecretUntil: null }])
    clock.advance(5 * 60 + 6)
    expect(await ask(token)).toMatchObject({ status: 401 })
  })

  it('never have more than two secrets, and one again after a rekey without overlap', async () => {
    const { test, app, agent: first, accounts } = await appWithAgent(['progress:write'])
    const ask = guardedRoute(test, 'progress:write')
    const signIn = async ({ id, secret }: AgentCredentials) =>
      (await requestToken(app, GRANT, basic(id, secret))).status
    const second = await accounts.rekey(first.id, 10 * MINUTE_MS)
    const third = await accounts.rekey(first.id, 10 * MINUTE_MS)
    expect([await signIn(first), await signIn(second), await signIn(third)]).toEqual([401, 200, 200])
    const token = await agentToken(app, second)
    const last = await accounts.rekey(first.id)
    expect([await signIn(second), await signIn(third), await signIn(last)]).toEqual([401, 401, 200])
    expect(await ask(token)).toMatchObject({ status: 401 })
  })

  it('that are disabled take neither of two secrets, nor a secret that nobody has', async () => {
    const { app, agent, accounts } = await appWithAgent()
    const renewed = await accounts.rekey(agent.id, 10 * MINUTE_MS)
    await accounts.disable(agent.id)
    for (const { secret } of [agent, renewed, { secret: '' }]) {
      expect((await requestToken(app, GRANT, basic(agent.id, secret))).status).toBe(401)
    }
  })

  it('are held to the scope of their token', async () => {
    const { test, app, agent } = await appWithAgent()
    const form = { ...GRANT, ...inForm(agent), scope: 'context:read' }
    const { access_token } = await tokenAnswer(await requestToken(app, form))
    expect(await guardedRoute(test, 'context:read')(access_token)).toMatchObject({ status: 200 })
    const refused = await guardedRoute(test, 'progress:write')(access_token)
    expect(refused).toMatchObject({ status: 403, code: 'insufficient_scope' })
  })

  it('lose access when their token has expired', async () => {
    const { test, app, agent, clock } = await appWithAgent()
    const token = await agentToken(app, agent)
    clock.advance(906)
    expect(await guardedRoute(test, 'progress:write')(token)).toMatchObject({ status: 401, code: 'invalid_token' })
  })
})
