import { decodeJwt, decodeProtectedHeader } from 'jose'
import { describe, expect, it } from 'vitest'
import { type AgentCredentials, createAgentAccounts } from '../src/agent/accounts.ts'
import { SCOPES, type Scope } from '../src/auth/scopes.ts'
import { agentToken, basic, fieldsOf, GRANT, requestToken, tokenAnswer } from './agent-client.ts'
import { execute, newDatabase } from './database.ts'
import { makeApp } from './support.ts'

const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' }
const INVALID_CLIENT = { error: 'invalid_client', error_description: 'Client authentication failed.' }

/** An app with one agent account. */
async function appWithAgent(scopes: readonly Scope[] = SCOPES) {
  const test = await makeApp()
  const accounts = createAgentAccounts(test.store)
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
  it('issues a token for HTTP Basic, without a refresh token and with Cache-Control: no-store (A11)', async () => {
    const { app, agent } = await appWithAgent()
    const answer = await requestToken(app, GRANT, basic(agent.id, agent.secret))
    expect(answer.status).toBe(200)
    expect(answer.headers.get('Cache-Control')).toBe('no-store')
    expect(answer.headers.get('Pragma')).toBe('no-cache')
    expect(await answer.json()).toEqual({
      access_token: expect.any(String),
      token_type: 'Bearer',
      expires_in: 900,
      scope: 'progress:write context:read session:end rooms:join sessions:any calls:place',
    })
  })

  it('accepts the secret in the form, also with a charset in the content type', async () => {
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

  it('narrows the scope to what was requested', async () => {
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

  it('ignores unknown parameters and treats an empty one as omitted (A14)', async () => {
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

  it('refuses two methods of client authentication at once', async () => {
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

  it('gives an unknown agent, a wrong secret, a disabled agent and a missing secret the same answer (A13)', async () => {
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

  it('answers 503, not invalid_client, when the store cannot be read', async () => {
    const databaseUrl = await newDatabase({ lasts: true })
    const { app } = await makeApp({ databaseUrl })
    await execute(databaseUrl, 'drop table agents')
    const answer = await requestToken(app, GRANT, basic('tutor', 'secret'))
    expect(answer.status).toBe(503)
    expect(await answer.json()).toMatchObject({ code: 'store_unavailable' })
  })
})
