import { describe, expect, test } from 'vitest'
import { refusal } from './scene.ts'
import { type Spoof, spoofScene } from './spoof-scene.ts'

const INVALID = { status: 422, code: 'validation_failed' }
const NO_JSON = { status: 400, code: 'malformed_json' }

const POSTS = ['/agent/progress', '/agent/session/end'] as const
const LONG = 'x'.repeat(100_000)
/** Long, and yet within the limit of a body. */
const FITTING = 'x'.repeat(60_000)

const nested = (levels: number, open: string, close: string) => open.repeat(levels) + close.repeat(levels)
const JSON_TYPE = { 'Content-Type': 'application/json' }

/** Sends it, and checks that nothing is written. */
async function expectRefused(s: Spoof, expected: { status: number; code: string }, path: string, init: RequestInit) {
  const before = await s.rows()
  const headers = { Authorization: `Bearer ${s.agent.bearer}`, ...init.headers }
  expect(await refusal(s.app.request(path, { ...init, headers })), path).toEqual(expected)
  expect(await s.rows()).toEqual(before)
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
    ['a number', INVALID, '7'],
    ['null', INVALID, 'null'],
    ['an empty object', INVALID, '{}'],
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
    ['a session of 60,000 characters', { sessionId: FITTING }],
  ])('%s', async (_, change) => {
    const s = await spoofScene()
    await postTo(s, path, INVALID, JSON.stringify({ ...s.victim.pair, data: {}, ...change }))
  })

  test('no body at all', async () => {
    await expectRefused(await spoofScene(), INVALID, path, { method: 'POST' })
  })
})

describe('spoofed input that only one route accepts', () => {
  const fields: Array<[string, (typeof POSTS)[number], Record<string, unknown>]> = [
    ['no data', '/agent/progress', { data: undefined }],
    ...[null, 'done', 7, true, ['done']].map((data): (typeof fields)[number] => [
      `data that is ${JSON.stringify(data)}`,
      '/agent/progress',
      { data },
    ]),
    ['a type that is a number', '/agent/progress', { type: 7 }],
    ['a reserved type', '/agent/progress', { type: 'session.status' }],
    ['a reason that is an object', '/agent/session/end', { reason: {} }],
    ['an empty reason', '/agent/session/end', { reason: '' }],
    ['a result that is a list', '/agent/session/end', { result: [] }],
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
