import { describe, expect, test } from 'vitest'
import { refusal } from './scene.ts'
import { type Spoof, spoofScene } from './spoof-scene.ts'

const INVALID = { status: 422, code: 'validation_failed' }
const NO_JSON = { status: 400, code: 'malformed_json' }
const TOO_LARGE = { status: 413, code: 'body_too_large' }
const WRONG_TYPE = { status: 415, code: 'unsupported_media_type' }

const POSTS = ['/agent/progress', '/agent/session/end'] as const
const LONG = 'x'.repeat(100_000)
/** Long, and yet within the limit of a body. */
const FITTING = 'x'.repeat(60_000)

const nested = (levels: number, open: string, close: string) => open.repeat(levels) + close.repeat(levels)
const JSON_TYPE = { 'Content-Type': 'application/json' }

/** Sends it, and checks that nothing is written. */
async function expectRefused(s: Spoof, expected: { status: number; code: string }, path: string, init: RequestInit) {
  const before = s.rows()
  const headers = { Authorization: `Bearer ${s.agent.bearer}`, ...init.headers }
  expect(await refusal(s.app.request(path, { ...init, headers })), path).toEqual(expected)
  expect(s.rows()).toEqual(before)
}

const postTo = (s: Spoof, path: string, expected: { status: number; code: string }, body: string, headers = {}) =>
  expectRefused(s, expected, path, { method: 'POST', body, headers: { ...JSON_TYPE, ...headers } })

describe.each(POSTS)('a spoofed body to POST %s', (path) => {
  test.each<[string, { status: number; code: string }, string]>([
    ['empty', INVALID, ''],
    ['not JSON', NO_JSON, 'userId=user_1&sessionId=sess_1'],
    ['cut off', NO_JSON, '{"userId":"user_1"'],
    ['JSON followed by more', NO_JSON, '{} {}'],
    ['XML', NO_JSON, '<callback/>'],
    ['a list', INVALID, '[]'],
    ['a string', INVALID, '"user_1"'],
    ['a number', INVALID, '1e999'],
    ['null', INVALID, 'null'],
    ['an empty object', INVALID, '{}'],
    ['100,000 brackets', TOO_LARGE, '['.repeat(100_000)],
    ['60,000 brackets', NO_JSON, '['.repeat(60_000)],
    ['30,000 nested lists', INVALID, nested(30_000, '[', ']')],
    ['5,000 nested objects', INVALID, `${'{"userId":'.repeat(5000)}1${'}'.repeat(5000)}`],
  ])('a body that is %s', async (_, expected, body) => {
    await postTo(await spoofScene(), path, expected, body)
  })

  test.each<[string, Record<string, unknown>]>([
    ['no user', { userId: undefined }],
    ['no session', { sessionId: undefined }],
    ['a user that is null', { userId: null }],
    ['a user that is a number', { userId: 7 }],
    ['a user that is a list', { userId: ['user_1'] }],
    ['a user that is an object', { userId: { $ne: null } }],
    ['a user that is true', { userId: true }],
    ['a session that is a list', { sessionId: ['sess_1'] }],
    ['an empty user', { userId: '' }],
    ['an empty session', { sessionId: '' }],
    ['a user of 129 characters', { userId: 'u'.repeat(129) }],
    ['a user of 60,000 characters', { userId: FITTING }],
    ['a session of 60,000 characters', { sessionId: FITTING }],
  ])('%s', async (_, change) => {
    const s = await spoofScene()
    await postTo(s, path, INVALID, JSON.stringify({ ...s.victim.pair, data: {}, ...change }))
  })

  test.each(['userId', 'sessionId', 'data', 'type', 'reason', 'result', 'other'])(
    'a string of 100,000 characters as %s',
    async (field) => {
      const s = await spoofScene()
      await postTo(s, path, TOO_LARGE, JSON.stringify({ ...s.victim.pair, data: {}, [field]: LONG }))
    },
  )

  test('a body of 100,000 bytes that is streamed without a length', async () => {
    const s = await spoofScene()
    const chunk = new TextEncoder().encode(JSON.stringify({ ...s.victim.pair, data: { text: LONG } }))
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(chunk)
        controller.close()
      },
    })
    const init = { method: 'POST', body, duplex: 'half' as const, headers: JSON_TYPE }
    await expectRefused(s, TOO_LARGE, path, init)
  })

  test.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'text/json', ''])(
    'the content type %o',
    async (type) => {
      const s = await spoofScene()
      const body = JSON.stringify({ ...s.victim.pair, data: {} })
      await postTo(s, path, WRONG_TYPE, body, { 'Content-Type': type })
    },
  )

  test('no body at all', async () => {
    await expectRefused(await spoofScene(), INVALID, path, { method: 'POST' })
  })
})

describe('spoofed input that only one route accepts', () => {
  const tooDeep = JSON.parse(nested(33, '[', ']')) as unknown
  const fields: Array<[string, (typeof POSTS)[number], Record<string, unknown>]> = [
    ['no data', '/agent/progress', { data: undefined }],
    ...[null, 'done', 7, true, ['done']].map((data): (typeof fields)[number] => [
      `data that is ${JSON.stringify(data)}`,
      '/agent/progress',
      { data },
    ]),
    ['data of 33 levels', '/agent/progress', { data: { tooDeep } }],
    ['a type that is a number', '/agent/progress', { type: 7 }],
    ['a type of 60,000 characters', '/agent/progress', { type: FITTING }],
    ['a reserved type', '/agent/progress', { type: 'session.status' }],
    ['a reason that is an object', '/agent/session/end', { reason: {} }],
    ['an empty reason', '/agent/session/end', { reason: '' }],
    ['a reason of 60,000 characters', '/agent/session/end', { reason: FITTING }],
    ['a result that is a list', '/agent/session/end', { result: [] }],
    ['a result of 33 levels', '/agent/session/end', { result: { tooDeep } }],
  ]
  test.each(fields)('%s to %s', async (_, path, change) => {
    const s = await spoofScene()
    await postTo(s, path, INVALID, JSON.stringify({ ...s.victim.pair, data: {}, ...change }))
  })

  test('data with 10,000 levels', async () => {
    const s = await spoofScene()
    const pair = JSON.stringify(s.victim.pair).slice(1, -1)
    const deep = `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`
    await postTo(s, '/agent/progress', INVALID, `{${pair},"data":${deep}}`)
    await postTo(s, '/agent/session/end', INVALID, `{${pair},"result":${deep}}`)
  })

  test('an Idempotency-Key of 100,000 characters', async () => {
    const s = await spoofScene()
    const body = JSON.stringify({ ...s.victim.pair, data: {} })
    const expected = { status: 400, code: 'invalid_idempotency_key' }
    await postTo(s, '/agent/progress', expected, body, { 'Idempotency-Key': LONG })
  })
})

describe('a spoofed GET /agent/context', () => {
  test.each<[string, (pair: { userId: string; sessionId: string }) => string]>([
    ['no pair', () => ''],
    ['no user', ({ sessionId }) => `sessionId=${sessionId}`],
    ['no session', ({ userId }) => `userId=${userId}`],
    ['an empty user', ({ sessionId }) => `userId=&sessionId=${sessionId}`],
    ['a user of 100,000 characters', ({ sessionId }) => `userId=${LONG}&sessionId=${sessionId}`],
    ['a session of 100,000 characters', ({ userId }) => `userId=${userId}&sessionId=${LONG}`],
    ['two users', ({ userId, sessionId }) => `userId=${userId}&userId=user_other&sessionId=${sessionId}`],
    ['two sessions', ({ userId, sessionId }) => `userId=${userId}&sessionId=${sessionId}&sessionId=sess_other`],
    ['lists', ({ userId, sessionId }) => `userId[]=${userId}&sessionId[]=${sessionId}`],
  ])('%s', async (_, query) => {
    const s = await spoofScene()
    await expectRefused(s, INVALID, `/agent/context?${query(s.victim.pair)}`, {})
  })
})
