import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { Problem } from '../src/http/problem.ts'
import { strictObject } from '../src/http/router.ts'
import { callingScene, scene } from './scene.ts'
import { joinClaims, mint, refusedFields } from './token-client.ts'

const JSON_TYPE = 'application/json'
const invalid = (...fields: string[]) => ({ status: 422, code: 'validation_failed', fields })
const problemOf = async (answer: Response) => z.strictObject(Problem.shape).parse(await answer.json())

/** Sends a body byte for byte. */
const send = (
  { app }: Pick<Awaited<ReturnType<typeof scene>>, 'app'>,
  path: string,
  bearer: string,
  body: string | Buffer<ArrayBuffer>,
  type = JSON_TYPE,
) => app.request(path, { method: 'POST', headers: { Authorization: `Bearer ${bearer}`, 'Content-Type': type }, body })

describe('POST /token in protobuf’s other spelling', () => {
  test('means the same', async () => {
    const s = await scene()
    await s.accounts.create('tutor', [])
    const { id, bearer } = await s.newUser()
    const first = await mint(s, bearer, {
      roomName: 'lesson',
      participantIdentity: id,
      participantName: 'Ada',
      participantMetadata: '{"level":3}',
      participantAttributes: { level: '3' },
      roomConfig: { agents: [{ agentName: 'tutor', metadata: 'x' }] },
      autoCreateRoom: true,
    })
    expect(first).toMatchObject({ room_name: 'lesson', participant_name: 'Ada', participant_identity: id })
    expect(s.sfu.rooms.has('lesson')).toBe(true)
    const claims = await joinClaims(s, first.token)
    expect(JSON.parse(claims.metadata ?? '')).toMatchObject({ level: 3 })
    expect(claims.attributes).toMatchObject({ level: '3' })
    expect(claims.roomConfig?.agents?.[0]?.agentName).toBe('tutor')
    const again = await mint(s, bearer, { sessionId: first.session_id })
    expect(again.session_id).toBe(first.session_id)
    // Both at once, if they agree.
    expect((await mint(s, bearer, { room_name: 'lesson', roomName: 'lesson', room: 'lesson' })).room).toBe('lesson')
  })

  test.each([
    [{ room_name: 'a', roomName: 'b' }, 'room'],
    [{ roomName: 'a', room: 'b' }, 'room'],
    [{ participantName: 'a', name: 'b' }, 'name'],
    [{ participant_metadata: '{}', participantMetadata: '{"a":1}' }, 'participant_metadata'],
    [{ participant_attributes: { a: '1' }, participantAttributes: { a: '2' } }, 'participant_attributes'],
    [{ room_config: { agents: [] }, roomConfig: { agents: [{ agentName: 'tutor' }] } }, 'room_config'],
    [{ session_id: 'sess_1', sessionId: 'sess_2' }, 'session_id'],
    [{ auto_create_room: true, autoCreateRoom: false }, 'auto_create_room'],
  ])('is refused where it contradicts the first: %o', async (request, field) => {
    const s = await scene()
    const { bearer } = await s.newUser()
    expect(await refusedFields(send(s, '/token', bearer, JSON.stringify(request)))).toEqual(invalid(field))
  })
})

describe('an unknown field', () => {
  test.each([
    ['roomname', 'Did you mean room_name?'],
    ['ROOM', 'Did you mean room?'],
    ['room-name', 'Did you mean room_name?'],
    ['participant_identiy', 'Did you mean participant_identity?'],
    ['agentName', 'The agent is named in room_config'],
    ['agent_name', 'The agent is named in room_config'],
    ['agentMetadata', 'It belongs beside the agent'],
    ['constructor', 'This field does not exist.'],
    ['something\nelse', 'This field does not exist.'],
    ['x'.repeat(10_000), 'This field does not exist.'],
  ])('of POST /token is refused by name, and opens no session: %s', async (name, message) => {
    const s = await scene()
    const { id, bearer } = await s.newUser()
    const answer = await send(s, '/token', bearer, JSON.stringify({ [name]: 'x', room: 'lesson' }))
    expect(answer.status).toBe(422)
    const { errors = [] } = await problemOf(answer)
    expect(errors).toEqual([{ field: name.slice(0, 128), message: expect.stringContaining(message) }])
    expect(await s.store.sessions.listByUser(id, 10)).toEqual([])
  })

  test('is refused one by one, beside what else is wrong', async () => {
    const s = await scene()
    const { bearer } = await s.newUser()
    const { errors } = await problemOf(await send(s, '/token', bearer, '{"rooom":"a","room":7,"agentName":"tutor"}'))
    expect(errors?.map(({ field }) => field).sort()).toEqual(['agentName', 'room', 'rooom'])
  })

  test('costs the search for the nearest name twenty times at most', () => {
    const names = Array.from({ length: 1000 }, (_, i) => [`name_${i}`, 0])
    const { error } = strictObject({ name: z.string().optional() }).safeParse(Object.fromEntries(names))
    expect(error?.issues[0]?.message.split('\n')).toHaveLength(20)
  })

  test.each([
    ['/auth/register', { email: 'ada@example.com', password: 'correct horse', Name: 'Ada' }, 'Name', 'name'],
    ['/auth/login', { email: 'ada@example.com', password: 'correct horse', passwrd: 'x' }, 'passwrd', 'password'],
    ['/auth/guest', { nme: 'Ada' }, 'nme', 'name'],
    ['/auth/refresh', { refresh_token: 'x', refreshToken: 'x' }, 'refreshToken', 'refresh_token'],
    ['/auth/logout', { refresh_token: 'x', refreshtoken: 'x' }, 'refreshtoken', 'refresh_token'],
    ['/rooms', { roomname: 'lesson' }, 'roomname', 'room_name'],
    ['/agent/progress', { data: {}, session_id: 'x' }, 'session_id', 'sessionId'],
    ['/agent/progress', { data: {}, Type: 'x' }, 'Type', 'type'],
    ['/agent/session/end', { reasn: 'x' }, 'reasn', 'reason'],
  ])('of POST %s is refused with the nearest known one (%o)', async (path, body, field, nearest) => {
    const { s, agent, pair, user } = await callingScene()
    const isAgents = path.startsWith('/agent/')
    const sent = JSON.stringify(isAgents ? { ...pair, ...body } : body)
    const bearer = isAgents ? agent.bearer : user.bearer
    const problem = await problemOf(await send(s, path, bearer, sent))
    expect(problem).toMatchObject({
      status: 422,
      errors: [{ field, message: `This field does not exist. Did you mean ${nearest}?` }],
    })
  })
})

describe('a body that could not be stored as it was sent', () => {
  const bytes = (...values: number[]) => String.fromCharCode(...values)
  test.each<[string, string, string]>([
    ['an integer above 2^53', '{"n":9007199254740993}', '9007199254740993'],
    ['an integer far above 2^53', '{"n":123456789012345678901}', '123456789012345678901'],
    ['a fraction of more digits than a double has', '{"n":3.14159265358979323846}', '3.14159265358979323846'],
    ['a number that overflows', '{"n":1e999}', '1e999'],
    ['a number that underflows', '{"n":[{"x":-1E-999}]}', '-1E-999'],
    ['a member named __proto__', '{"__proto__":{"admin":true}}', '__proto__'],
    ['an escaped __proto__', '{"a":{"\\u005f_proto__":1}}', '__proto__'],
    ['one name twice', '{"a":1,"b":{"a":2},"a" : 3}', 'two members named a'],
    ['one name twice, once escaped', '{"a":1,"\\u0061":2}', 'two members named a'],
    ['half of a surrogate pair', '{"a":"\\ud800"}', 'surrogate'],
    ['bytes that are not UTF-8', `{"a":"${bytes(0xe9)}"}`, 'UTF-8'],
  ])('is refused with the reason: %s', async (_, data, reason) => {
    const { s, agent, pair, user } = await callingScene()
    for (const [path, field] of [
      ['/agent/progress', 'data'],
      ['/agent/session/end', 'result'],
    ] as const) {
      const body = Buffer.from(`${JSON.stringify(pair).slice(0, -1)},"${field}":${data}}`, 'latin1')
      const problem = await problemOf(await send(s, path, agent.bearer, body))
      expect(problem).toMatchObject({ status: 400, code: 'malformed_json', detail: expect.stringContaining(reason) })
    }
    expect(await s.eventsOf(user, pair)).toEqual([])
  })

  test('is refused quickly: a number of tens of thousands of digits', async () => {
    const s = await scene()
    const startedAt = performance.now()
    const answer = await send(s, '/auth/login', 'x', `{"email":1.${'0'.repeat(64_000)}1}`)
    expect(performance.now() - startedAt).toBeLessThan(1000)
    expect(await problemOf(answer)).toMatchObject({ status: 400, code: 'malformed_json' })
  })

  test('does not include data whose meaning survives: it comes back whole', async () => {
    const { s, agent, pair, user } = await callingScene()
    const data =
      '{"max":9007199254740991,"min":-9007199254740991,"e":1e3,"f":0.1,"g":0.10000000000000001,"t":1.7976931348623157e308,' +
      '"z":0.00000000000000000000,"s":"1e999 9007199254740993 {\\"a\\":1,\\"a\\":2}","c":"\\u0000\\ud83d\\ude00",' +
      '"list":[{"a":1},{"a":1}],"constructor":1,"":{"":""}}'
    const body = `${JSON.stringify(pair).slice(0, -1)},"data":${data}}`
    expect((await send(s, '/agent/progress', agent.bearer, body)).status).toBe(201)
    expect((await s.eventsOf(user, pair)).at(-1)?.data).toEqual(JSON.parse(data))
  })

  test.each(['{"n":9007199254740993}', '{"a":1,"a":2}', '{"__proto__":{}}'])(
    'is refused as metadata too: %s',
    async (participant_metadata) => {
      const s = await scene()
      const { bearer } = await s.newUser()
      const refused = await refusedFields(send(s, '/token', bearer, JSON.stringify({ participant_metadata })))
      expect(refused).toEqual({ status: 422, code: 'metadata_invalid', fields: ['participant_metadata'] })
    },
  )
})

describe('the reason of a session’s end', () => {
  const end = async (reason: string) => {
    const { s, agent, pair } = await callingScene()
    return s.end(agent.bearer, pair, { reason })
  }

  test.each(['a\u001b[2J', '\u0000', '\u009b2J', '\u007f'])('may not hold control characters: %j', async (reason) => {
    expect(await refusedFields(end(reason))).toEqual(invalid('reason'))
  })

  test('may have several lines', async () => {
    expect((await end('Done:\r\n\tall of it – سلام\u200f 👩‍🚀')).status).toBe(200)
  })
})

describe('a content type', () => {
  test.each([
    'application/json;',
    'application/json ;charset=utf-8',
    'Application/JSON; charset="UTF-8"',
    'application/x+json',
  ])('may be written %s', async (type) => {
    const s = await scene()
    const { bearer } = await s.newUser()
    expect((await send(s, '/token', bearer, '{"room":"lesson"}', type)).status).toBe(201)
  })
})
