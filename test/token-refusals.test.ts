import { describe, expect, test } from 'vitest'
import { scene } from './scene.ts'
import { post } from './support.ts'
import { mint, refusedFields } from './token-client.ts'

const nested = (levels: number) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`

/** A refused request leaves nothing behind: no session, no room. */
async function expectRefused(request: unknown, refused: { status: number; code: string; fields: string[] }) {
  const s = await scene()
  const user = await s.newUser()
  await s.accounts.create('tutor', [])
  expect(await refusedFields(post(s.app, '/token', request, user.bearer))).toEqual(refused)
  expect(await s.store.sessions.listByUser(user.id, 10)).toEqual([])
  expect(s.sfu.rooms.size).toBe(0)
}

describe('POST /token with another identity', () => {
  test.each([
    ['as LiveKit names it', { participant_identity: 'user_12345' }],
    ['as the guide names it', { identity: 'user_12345' }],
    ['of a second leg', { identity: 'agent-tutor' }],
  ])('is refused, %s', (_, request) =>
    expectRefused(request, { status: 403, code: 'identity_forbidden', fields: ['identity'] }),
  )

  test('is refused even if it is an existing user’s', async () => {
    const s = await scene()
    const [ada, eve] = [await s.newUser(), await s.newUser()]
    for (const identity of [ada.id, `${eve.id}#2`, eve.id.toUpperCase(), ` ${eve.id}`]) {
      const refused = await refusedFields(post(s.app, '/token', { identity }, eve.bearer))
      expect(refused).toEqual({ status: 403, code: 'identity_forbidden', fields: ['identity'] })
    }
  })
})

describe('POST /token with attributes', () => {
  const names = [
    'userId',
    'sessionId',
    'lk.agent.state',
    'lk.',
    'UserId',
    'sessionid',
    'USERID',
    'userId ',
    ' sessionId\t',
  ]
  test.each([...names, 'LK.x', ' lk.x', 'user\u200bId', 'ｕserId'])('refuses %j', (key) =>
    expectRefused(
      { participant_attributes: { level: '3', [key]: 'mine' } },
      { status: 403, code: 'attribute_forbidden', fields: [`participant_attributes.${key}`] },
    ),
  )
})

describe('POST /token with agents', () => {
  test.each([
    ['agent_name', { agent_name: 'nobody' }],
    ['agentName', { agentName: 'nobody' }],
  ])('refuses unregistered agents (%s)', (_, agent) =>
    expectRefused(
      { room_config: { agents: [agent] } },
      { status: 422, code: 'agent_not_registered', fields: ['room_config.agents'] },
    ),
  )

  test('refuses an agent from the next request after it is disabled', async () => {
    const s = await scene()
    const user = await s.newUser()
    await s.newAgent('tutor')
    const request = { room_config: { agents: [{ agent_name: 'tutor' }] } }
    await mint(s, user.bearer, request)
    await s.accounts.disable('tutor')
    const refused = { status: 422, code: 'agent_not_registered', fields: ['room_config.agents'] }
    expect(await refusedFields(post(s.app, '/token', request, user.bearer))).toEqual(refused)
  })

  test('allows one agent per session', () =>
    expectRefused(
      { room_config: { agents: [{ agent_name: 'tutor' }, { agent_name: 'tutor' }] } },
      { status: 403, code: 'room_config_forbidden', fields: ['room_config.agents'] },
    ))

  test.each([
    ['restart_policy', { restart_policy: 1 }],
    ['restart_policy', { restartPolicy: 'JRP_NEVER' }],
    ['attributes', { attributes: { userId: 'somebody' } }],
  ])('refuses the server’s field %s (%o)', (field, more) =>
    expectRefused(
      { room_config: { agents: [{ agent_name: 'tutor', ...more }] } },
      { status: 403, code: 'room_config_forbidden', fields: [`room_config.agents.${field}`] },
    ),
  )
})

describe('POST /token with room_config', () => {
  const EGRESS = { room: { file_outputs: [{ filepath: 'all-of-it.mp4' }] } }
  test.each([
    ['name', { name: 'another-configuration' }],
    ['empty_timeout', { empty_timeout: 86_400 }],
    ['empty_timeout', { emptyTimeout: 86_400 }],
    ['departure_timeout', { departure_timeout: 86_400 }],
    ['departure_timeout', { departureTimeout: '86400' }],
    ['max_participants', { max_participants: 1 }],
    ['max_participants', { maxParticipants: 1 }],
    ['metadata', { metadata: '{}' }],
    ['egress', { egress: EGRESS }],
    ['min_playout_delay', { min_playout_delay: 1 }],
    ['min_playout_delay', { minPlayoutDelay: 1 }],
    ['max_playout_delay', { max_playout_delay: 1 }],
    ['max_playout_delay', { maxPlayoutDelay: 1 }],
    ['sync_streams', { sync_streams: true }],
    ['sync_streams', { syncStreams: true }],
    ['tags', { tags: { a: 'b' } }],
  ])('refuses the server’s setting %s (%o)', (field, room_config) =>
    expectRefused({ room_config }, { status: 403, code: 'room_config_forbidden', fields: [`room_config.${field}`] }),
  )
})

describe('agent metadata in POST /token', () => {
  test.each([
    ['a word', 'hello'],
    ['a list', '[]'],
    ['a string', '"a"'],
    ['null', 'null'],
    ['nested 33 levels deep', nested(33)],
    ['nested 600 levels deep', nested(600)],
  ])('must be a flat enough JSON object, not %s', (_, participant_metadata) =>
    expectRefused(
      { participant_metadata },
      { status: 422, code: 'metadata_invalid', fields: ['participant_metadata'] },
    ),
  )

  test.each(['sessionId', 'userId', 'USERID', 'sessionid ', 'user\u200bId'])(
    'may not contain the reserved key %j, not even as null',
    (key) =>
      expectRefused(
        { participant_metadata: JSON.stringify({ a: 1, [key]: null }) },
        { status: 403, code: 'metadata_forbidden', fields: ['participant_metadata'] },
      ),
  )

  const half = JSON.stringify({ a: 'a'.repeat(2100) })
  test.each([
    ['of bytes, not of characters', { participant_metadata: JSON.stringify({ a: 'é'.repeat(2100) }) }],
    ['with the attributes', { participant_metadata: half, participant_attributes: { b: 'b'.repeat(2100) } }],
    [
      'with the agent’s',
      { participant_metadata: half, room_config: { agents: [{ agent_name: 'tutor', metadata: 'b'.repeat(2100) }] } },
    ],
  ])('has at most 4 KiB %s', (_, request) =>
    expectRefused(request, { status: 422, code: 'metadata_too_large', fields: ['participant_metadata'] }),
  )

  test.each([
    ['agent metadata', { room_config: { agents: [{ agent_name: 'tutor', metadata: '\u0001'.repeat(4000) }] } }],
    ['metadata', { participant_metadata: JSON.stringify({ a: '"\\'.repeat(1000) }) }],
  ])('is refused with the token’s length where encoding makes the token too long: %s', async (_, request) => {
    await expectRefused(request, { status: 422, code: 'metadata_too_large', fields: ['participant_metadata'] })
    const s = await scene()
    const { bearer } = await s.newUser()
    await s.accounts.create('tutor', [])
    const { session_id } = await mint(s, bearer)
    // A renewal is bounded too, and changes nothing when it is refused.
    const answer = await post(s.app, '/token', { ...request, session_id }, bearer)
    expect(await answer.json()).toMatchObject({ detail: expect.stringMatching(/has \d{4,5} characters; 7168 fit/) })
    expect((await s.store.sessions.find(session_id ?? ''))?.agentName).toBeNull()
  })

  test('makes no token longer than 7 KiB, with the longest names beside it', async () => {
    const s = await scene()
    const { bearer } = await s.newUser()
    const names = { room_name: 'r'.repeat(128), participant_name: 'n'.repeat(128) }
    const participant_metadata = JSON.stringify({ a: 'a'.repeat(4096 - 10) })
    expect((await mint(s, bearer, { ...names, participant_metadata })).token.length).toBeLessThanOrEqual(7168)
  })

  test('may have the full 4 KiB and 32 levels', async () => {
    const s = await scene()
    const { bearer } = await s.newUser()
    const exactly = JSON.stringify({ a: 'a'.repeat(4096 - 8 - '{}'.length) })
    expect(exactly).toHaveLength(4096 - '{}'.length)
    await mint(s, bearer, { participant_metadata: exactly })
    await mint(s, bearer, { participant_metadata: nested(32) })
  })
})

describe('POST /token for a room', () => {
  const forbidden = { status: 403, code: 'room_forbidden', fields: ['room'] }

  test('of another user is refused, in both dialects, whether it was claimed or created', async () => {
    const s = await scene()
    const [ada, eve] = [await s.newUser(), await s.newUser()]
    const made = await mint(s, ada.bearer)
    const named = await mint(s, ada.bearer, { room: 'adas-room' })
    for (const { room } of [made, named]) {
      expect(await refusedFields(post(s.app, '/token', { room }, eve.bearer))).toEqual(forbidden)
      expect(await refusedFields(post(s.app, '/token', { room_name: room }, eve.bearer))).toEqual(forbidden)
    }
    expect(await s.store.sessions.listByUser(eve.id, 10)).toEqual([])
  })

  test('that exists in LiveKit without a claim is refused', async () => {
    const s = await scene()
    const { bearer } = await s.newUser()
    s.sfu.enter('of-another-system', { identity: 'somebody' })
    expect(await refusedFields(post(s.app, '/token', { room: 'of-another-system' }, bearer))).toEqual(forbidden)
  })
})

describe('POST /token for a session', () => {
  test('that has ended is refused', async () => {
    const s = await scene()
    const { bearer } = await s.newUser()
    const { session_id } = await mint(s, bearer)
    await s.app.request(`/sessions/${session_id}`, { method: 'DELETE', headers: { Authorization: `Bearer ${bearer}` } })
    await s.background.idle()
    const ended = { status: 409, code: 'session_ended', fields: ['session_id'] }
    for (const request of [{ session_id }, { session_id, auto_create_room: true }]) {
      expect(await refusedFields(post(s.app, '/token', request, bearer))).toEqual(ended)
    }
    expect(s.sfu.rooms.size).toBe(0)
  })

  test('cannot move it to another room', async () => {
    const s = await scene()
    const { bearer } = await s.newUser()
    const { session_id } = await mint(s, bearer)
    const refused = { status: 422, code: 'validation_failed', fields: ['room'] }
    expect(await refusedFields(post(s.app, '/token', { session_id, room: 'elsewhere' }, bearer))).toEqual(refused)
  })
})

describe('a malformed POST /token', () => {
  test.each([
    ['two rooms', { room: 'a', room_name: 'b' }, 'room'],
    ['two identities', { identity: 'a', participant_identity: 'b' }, 'identity'],
    ['two names', { name: 'a', participant_name: 'b' }, 'name'],
    ['a NUL in a room', { room: 'a\u0000b' }, 'room'],
    ['a line break in a room', { room_name: 'a\nb' }, 'room_name'],
    ['a zero-width space in a room', { room: 'a\u200bb' }, 'room'],
    ['a zero-width joiner in a room', { room: 'a\u200db' }, 'room'],
    ['a variation selector in a room', { room: 'a\ufe0f' }, 'room'],
    ['a soft hyphen in a room', { room: 'a\u00adb' }, 'room'],
    ['a Hangul filler in a room', { room: 'a\u3164' }, 'room'],
    ['a space at the end of a room', { room: 'a ' }, 'room'],
    ['a no-break space in a room', { room_name: 'a\u00a0b' }, 'room_name'],
    ['a line separator in a room', { room_name: 'a\u2028b' }, 'room_name'],
    ['a bidirectional override in a name', { name: 'a\u202eb' }, 'name'],
    ['a zero-width space in a name', { participant_name: 'Ada\u200b' }, 'participant_name'],
    ['a name of joiners alone', { name: '\u200d\ufe0f' }, 'name'],
    ['a name of spaces', { name: '  ' }, 'name'],
    ['a DEL in a name', { name: 'a\u007Fb' }, 'name'],
    ['a C1 control in a name', { participant_name: 'a\u0085b' }, 'participant_name'],
    ['a room of few characters and many bytes', { room: '語'.repeat(86) }, 'room'],
    ['a long room', { room: 'r'.repeat(129) }, 'room'],
    ['a long room_name', { room_name: 'r'.repeat(129) }, 'room_name'],
    ['a long name', { name: 'n'.repeat(129) }, 'name'],
    ['a long identity', { identity: 'i'.repeat(257) }, 'identity'],
    ['a long session_id', { session_id: 's'.repeat(129) }, 'session_id'],
    ['long metadata', { participant_metadata: 'm'.repeat(4097) }, 'participant_metadata'],
    ['a number for a room', { room: 7 }, 'room'],
    ['an object for metadata', { participant_metadata: {} }, 'participant_metadata'],
    ['a number for an attribute', { participant_attributes: { level: 3 } }, 'participant_attributes.level'],
    ['a list for attributes', { participant_attributes: [] }, 'participant_attributes'],
    ['a string for a flag', { auto_create_room: 'yes' }, 'auto_create_room'],
    ['a string for room_config', { room_config: 'x' }, 'room_config'],
    ['no list of agents', { room_config: { agents: 'tutor' } }, 'room_config.agents'],
    ['a list', [], '(body)'],
    ['null', null, '(body)'],
  ])('is refused for %s', (_, request, field) =>
    expectRefused(request, { status: 422, code: 'validation_failed', fields: [field] }),
  )
})
