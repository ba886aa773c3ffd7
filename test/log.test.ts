import { describe, expect, test } from 'vitest'
import { SignedInResponse } from '../src/auth/schemas.ts'
import { createLog, readable } from '../src/log.ts'
import { basic, GRANT, requestToken } from './agent-client.ts'
import { execute, newDatabase, onPostgres } from './database.ts'
import { FORGERIES, userClaims } from './forged.ts'
import { callingScene } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { makeApp, post, type TestApp } from './support.ts'

const ADA = { email: 'ada.lovelace@example.com', password: 'correct horse' }

/** The line that one request wrote; fails when it wrote another number of them. */
async function lineOf({ logged }: Pick<TestApp, 'logged'>, request: () => Response | Promise<Response>) {
  const before = logged().length
  const answer = await request()
  const [line, ...more] = logged()
    .slice(before)
    .filter((one) => 'requestId' in one)
  expect(more).toEqual([])
  expect(line).toMatchObject({ requestId: answer.headers.get('X-Request-Id'), status: answer.status })
  return line
}

describe('each request logs one line with who, what and why', () => {
  test('for users (A46)', async () => {
    const t = await makeApp()
    const line = (path: string, body: object, bearer?: string) => lineOf(t, () => post(t.app, path, body, bearer))
    const signedIn = SignedInResponse.parse(await (await post(t.app, '/auth/register', ADA)).json())
    const ada = { user: signedIn.user.id }
    const wrong = { ...ADA, password: 'wrong horse' }

    const failed = await line('/auth/login', wrong)
    expect(failed).toMatchObject({
      method: 'POST',
      path: '/auth/login',
      code: 'invalid_credentials',
      client: 'unknown',
    })
    expect(failed).toHaveProperty('account', expect.stringMatching(/^[\w-]{12}$/))
    expect(failed).not.toHaveProperty('user')
    expect(Date.parse(failed?.time ?? '')).toBeGreaterThan(Date.now() - 60_000)
    // The same account, the same name; another one, another.
    expect((await line('/auth/login', { ...wrong, email: 'ADA.Lovelace@example.com' }))?.account).toBe(failed?.account)
    expect((await line('/auth/login', { ...wrong, email: 'bob@example.com' }))?.account).not.toBe(failed?.account)

    expect(await line('/auth/login', ADA)).toMatchObject({ status: 200, ...ada })
    expect(await line('/auth/register', ADA)).toMatchObject({ code: 'email_taken', account: failed?.account })
    const { refresh_token } = signedIn
    expect(await line('/auth/refresh', { refresh_token })).toMatchObject({ status: 200, ...ada })
    expect(await line('/auth/refresh', { refresh_token: 'unknown-token' })).toMatchObject({
      code: 'invalid_refresh_token',
    })
    expect(await line('/token', {}, signedIn.access_token)).toMatchObject({ status: 201, ...ada })
    expect(await line('/token', { identity: 'another' }, signedIn.access_token)).toMatchObject({
      code: 'identity_forbidden',
      ...ada,
    })
    expect(await line('/token', {}, 'no.such.token')).toMatchObject({ code: 'invalid_token', client: 'unknown' })
    expect(await line('/token', {})).toMatchObject({ code: 'missing_token' })
  })

  test('for agents (A46)', async () => {
    const { s, agent, pair, user } = await callingScene()
    const tutor = { agent: agent.id }
    const secret = (id: string, value: string) => lineOf(s, () => requestToken(s.app, GRANT, basic(id, value)))
    expect(await secret(agent.id, agent.secret)).toMatchObject({ path: '/agent/token', status: 200, ...tutor })
    expect(await secret(agent.id, 'a-wrong-secret')).toMatchObject({ status: 401, ...tutor })
    // A caller may have put the secret where the name belongs.
    expect(await secret(agent.secret, agent.secret)).not.toHaveProperty('agent')

    const progress = (bearer: string, about = pair) => lineOf(s, () => s.progress(bearer, about))
    expect(await progress(agent.bearer)).toMatchObject({ status: 201, ...tutor })
    const another = { ...pair, userId: 'user_another' }
    expect(await progress(agent.bearer, another)).toMatchObject({ code: 'session_mismatch', ...tutor })
    expect(await progress(user.bearer)).toMatchObject({ code: 'invalid_token' })
    const narrow = await s.newAgent('narrow', ['context:read'])
    expect(await progress(narrow.bearer)).toMatchObject({ code: 'insufficient_scope', agent: 'narrow' })
    await s.accounts.disable(agent.id)
    expect(await progress(agent.bearer)).toMatchObject({ code: 'agent_disabled', ...tutor })
  })
})

describe('a log line', () => {
  const HOSTILE = '\u0085\u007f\u009b2J\u200b\u2028\u202e\u2066'

  test('escapes terminal control characters in every key and value', async () => {
    const written: string[] = []
    const log = createLog('info', { write: (line) => written.push(line) })
    log.warn({ path: HOSTILE, [HOSTILE]: { deep: HOSTILE }, err: new Error(HOSTILE) }, HOSTILE)
    expect(written).toHaveLength(1)
    const [line = ''] = written
    expect(line).toMatch(/^[ -~]+\n$/)
    expect(JSON.parse(line)).toMatchObject({ msg: HOSTILE, path: HOSTILE, [HOSTILE]: { deep: HOSTILE } })
  })

  test('has a request id of the service, and the client’s X-Request-Id as another field', async () => {
    const t = await makeApp()
    const ask = (id: string) => t.app.request('/auth/me', { headers: { 'X-Request-Id': id } })
    for (const id of ['abc-123', 'x'.repeat(255), '\u009b2J evil']) {
      const line = await lineOf(t, () => ask(id))
      expect(line?.requestId).toMatch(/^[0-9a-f-]{36}$/)
      expect(line?.clientRequestId).toBe(id.slice(0, 128))
    }
    expect(await lineOf(t, () => t.app.request('/auth/me'))).not.toHaveProperty('clientRequestId')
  })

  const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
  const SPAN = '00f067aa0ba902b7'
  const traced = (traceparent: string) => async () => {
    const t = await makeApp()
    return lineOf(t, () => t.app.request('/auth/me', { headers: { traceparent } }))
  }

  test.each([`00-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-00`, `cc-${TRACE}-${SPAN}-01-more`])(
    'has the ids of trace and span in the traceparent %s',
    async (traceparent) => expect(await traced(traceparent)()).toMatchObject({ traceId: TRACE, spanId: SPAN }),
  )

  test.each([
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-01-more`,
    `00-${TRACE}-${SPAN}-01more`,
    `cc-${TRACE}-${SPAN}-01more`,
    `ff-${TRACE}-${SPAN}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.slice(1)}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`,
    'x'.repeat(1000),
  ])('has nothing of the malformed traceparent %s', async (traceparent) => {
    const line = await traced(traceparent)()
    expect(line).not.toHaveProperty('traceId')
    expect(line).not.toHaveProperty('spanId')
    expect(JSON.stringify(line)).not.toContain(SPAN)
  })
})

describe('a 5xx answer logs', () => {
  /** Level and code of every line of one request. */
  async function linesOf({ logged }: Pick<TestApp, 'logged'>, request: () => Response | Promise<Response>) {
    const before = logged().length
    const requestId = (await request()).headers.get('X-Request-Id')
    const lines = logged().slice(before)
    return lines.filter((line) => line.requestId === requestId).map(({ level, code, err }) => ({ level, code, err }))
  }

  test('one line when it has no cause', async () => {
    const { s, report } = await callingScene()
    s.sfu.mode = 'error500'
    expect(await linesOf(s, report)).toEqual([{ level: 30, code: 'liveness_unknown' }])
  })

  test('a warning, with its cause, when LiveKit does not answer', async () => {
    const { s, user } = await callingScene()
    s.sfu.mode = 'error500'
    expect(await linesOf(s, () => post(s.app, '/rooms', { room: 'lesson' }, user.bearer))).toEqual([
      { level: 40, code: 'livekit_unavailable', err: expect.objectContaining({ stack: expect.any(String) }) },
      { level: 30, code: 'livekit_unavailable' },
    ])
  })

  test('its cause with the ids of the caller’s trace', async () => {
    const s = await callingScene()
    s.s.sfu.mode = 'error500'
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    await post(s.s.app, '/rooms', { room: 'lesson' }, s.user.bearer, { traceparent })
    const traced = s.s.logged().filter(({ traceId }) => traceId === '4bf92f3577b34da6a3ce929d0e0e4736')
    expect(traced.map(({ level }) => level)).toEqual([40, 30])
  })

  test('an error, with its cause, when it is a bug in the service', async () => {
    const t = await makeApp()
    t.app.get('/broken', () => {
      throw new Error('a mistake')
    })
    expect(await linesOf(t, () => t.app.request('/broken'))).toEqual([
      { level: 50, code: 'internal_error', err: expect.objectContaining({ message: 'a mistake' }) },
      { level: 30, code: 'internal_error' },
    ])
  })
})

describe('the log contains no secret', () => {
  test('after a full round of requests with secrets in every place (A46)', async () => {
    const { s, agent, user, pair, joinToken, leg, report } = await callingScene()
    await report()
    await postWebhook(s, webhookEvent('participant_left', leg))
    const send = (path: string, init: RequestInit = {}) => s.app.request(path, init)
    const secrets = [user.bearer, user.refreshToken, agent.bearer, agent.secret, joinToken, ADA.password]
    for (const forge of Object.values(FORGERIES)) {
      secrets.push(await forge(s, userClaims(s, user)))
    }
    for (const secret of secrets.filter(({ length }) => length < 8000)) {
      await send(`/auth/me?access_token=${secret}`)
      await send('/auth/me', { headers: { Authorization: `Bearer ${secret}` } })
      await send('/auth/me', { headers: { Authorization: secret.trim() } })
      await post(s.app, '/auth/refresh', { refresh_token: secret })
      await post(s.app, '/auth/login', { email: 'ada.lovelace@example.com', password: secret })
      await send('/auth/login', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: `{"${secret}`,
      })
      await requestToken(s.app, GRANT, basic(agent.id, secret))
      await requestToken(s.app, { ...GRANT, client_id: secret, client_secret: secret })
      await post(s.app, '/token', { participant_metadata: secret, identity: secret }, user.bearer)
      await post(s.app, '/agent/progress', { ...pair, data: { secret } }, agent.bearer)
      await post(s.app, '/livekit/webhook', { secret }, secret)
    }
    const log = JSON.stringify(s.logged())
    expect(s.logged().length).toBeGreaterThan(200)
    for (const secret of secrets) expect(log).not.toContain(secret)
    expect(log).not.toMatch(/ada\.lovelace|@example/)
  })

  test('when the store fails with errors that repeat the values written (A46)', async () => {
    const databaseUrl = await newDatabase({ lasts: true })
    const t = await makeApp({ databaseUrl })
    for (const table of ['refresh_tokens', 'users'])
      await execute(databaseUrl, `drop table ${table}${onPostgres() ? ' cascade' : ''}`)
    const answers = [
      await post(t.app, '/auth/register', ADA),
      await post(t.app, '/auth/login', ADA),
      await post(t.app, '/auth/refresh', { refresh_token: 'a-refresh-token' }),
    ]
    expect(answers.map(({ status }) => status)).toEqual([503, 503, 503])
    expect(t.logged().filter(({ level }) => level >= 40)).toMatchObject(
      Array(3).fill({ level: 50, code: 'store_unavailable' }),
    )
    expect(JSON.stringify(t.logged())).not.toMatch(/ada\.lovelace|a-refresh-token/)
  })

  test('even if it is a token within any text: a message, a stack, a cause, a header, a path', () => {
    const lines: string[] = []
    const log = createLog('info', { write: (line: string) => void lines.push(line) })
    const claims = Buffer.from(JSON.stringify({ video: { roomList: true } })).toString('base64url')
    const tokens = ['{"alg":"HS256"}', '{ "alg": "HS256" }', '{\n"alg":"HS256"}'].map(
      (header) => `${Buffer.from(header).toString('base64url')}.${claims}.c2lnbmF0dXJl`,
    )
    for (const token of tokens) {
      const err = new Error(`invalid token: ${token}`, { cause: new Error(`"${token}"`) })
      log.warn(
        { err, path: `/x/${token}`, list: [token], deep: { body: `{"token": "${token}"}` } },
        `refused: ${token}`,
      )
    }
    expect(lines).toHaveLength(3)
    for (const line of lines) expect(JSON.parse(line)).toMatchObject({ msg: 'refused: [token]', path: '/x/[token]' })
    expect(lines.join('')).not.toContain(claims)
    log.info({ file: 'node_modules/everything/index.module.ts' }, 'shown')
    expect(lines.at(-1)).toContain('everything/index.module.ts')
  })

  test('even if code logs one by its field name', () => {
    const lines: string[] = []
    const log = createLog('info', { write: (line: string) => void lines.push(line) })
    const cause = new Error('Failed query: insert into users\nparams: hidden-1,hidden-2')
    const err = Object.assign(new Error('the store', { cause }), {
      params: ['hidden-3'],
      body: { password: 'hidden-4' },
    })
    log.error(
      { err, headers: { Authorization: 'hidden-5', host: 'shown-1' }, token: 'hidden-6', email: 'hidden-7' },
      'x',
    )
    log.info({ a: { b: { c: { d: { e: { password: 'hidden-8' } } } } }, user: 'shown-2' })
    const text = lines.join('')
    expect(text).not.toContain('hidden')
    expect(text.match(/shown-\d/g)).toEqual(['shown-1', 'shown-2'])
    expect(text).toContain('Failed query: insert into users')
  })
})

describe('on a terminal a line of the log', () => {
  const shown = (write: (log: ReturnType<typeof createLog>) => void) => {
    const lines: (string | undefined)[] = []
    write(createLog('debug', { write: (line) => lines.push(readable(line)) }))
    return lines
  }
  const request = { method: 'GET', path: '/auth/me', status: 401, milliseconds: 1.2, code: 'invalid_token' }

  test('is a sentence, with what matters of a request', () => {
    const lines = shown((log) => {
      log.info('serving')
      log.info(request)
      log.info({ ...request, path: '/health/live', status: 200, code: undefined })
      log.info({ ...request, path: '/health/ready', status: 503 })
    })
    const asked = 'GET /auth/me -> 401 invalid_token (1.2 ms)'
    expect(lines).toEqual(['serving', asked, undefined, 'GET /health/ready -> 503 invalid_token (1.2 ms)'])
  })

  test('has a stack only where the service itself failed', () => {
    const err = new Error('LiveKit is away')
    const [warning, failure] = shown((log) => {
      log.warn({ err }, 'not now')
      log.error({ err }, 'broken')
    })
    expect(warning).toBe('warning: not now: LiveKit is away')
    expect(failure).toMatch(/^error: broken\nError: LiveKit is away\n {4}at /)
  })

  test('cannot steer the terminal', () => {
    const path = '/x\u001b[2J\u009b1m\u202e\u2028'
    const text = shown((log) => {
      log.info({ ...request, path })
      log.warn({ err: new Error(path) }, path)
    }).join('')
    expect(text).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}]/u)
    expect(text).toContain('/x\\u001b[2J\\u009b1m\\u202e\\u2028')
  })
})
