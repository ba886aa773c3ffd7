import { describe, expect, test } from 'vitest'
import { describeApi, type Operation, operationsOf } from '../src/ops/openapi.ts'
import type { Pair } from './scene.ts'
import { postWebhook, webhookEvent } from './sfu.ts'
import { type Spoof, spoofScene } from './spoof-scene.ts'
import { makeApp } from './support.ts'

/** Which object of a user a field of that name refers to. */
const OBJECTS = {
  id: 'session',
  session_id: 'session',
  sessionId: 'session',
  before: 'cursor',
  room: 'room',
  room_name: 'room',
  roomName: 'room',
  identity: 'user',
  participant_identity: 'user',
  participantIdentity: 'user',
  userId: 'user',
} as const
type Kind = (typeof OBJECTS)[keyof typeof OBJECTS]
const isObject = (name: string): name is keyof typeof OBJECTS => name in OBJECTS

/** Fields that name no user's object; every field has to be in one of the two lists. */
const NO_OBJECTS = [
  ...['limit', 'after', 'last-event-id', 'idempotency-key', 'auto_create_room', 'type', 'data', 'reason', 'result'],
  // A phone number.
  'to',
  ...['name', 'participant_name', 'metadata', 'participant_metadata', 'participant_attributes'],
  ...[
    'current_password',
    'new_password',
    'deployment',
    'autoCreateRoom',
    'participantName',
    'participantMetadata',
    'participantAttributes',
    'roomConfig',
  ],
  // Of agents, who belong to no user.
  ...['room_config', 'agents', 'agent_name', 'agentName'],
]

/** The answer to an unknown id; another user's id gets the same, except for rooms. */
const REFUSED = /^(403 identity_forbidden|403 session_mismatch|404 session_not_found)$/

interface Place {
  method: string
  path: string
  in: 'path' | 'query' | 'body'
  name: keyof typeof OBJECTS
  /** Whose token the operation takes. */
  caller: 'user' | 'agent'
}

const { app } = await makeApp()
const document = describeApi(app, { publicUrl: 'https://api.behalf.test', version: '1' })
const schemas: Record<string, unknown> = document.components?.schemas ?? {}
const fields = operationsOf(document)
  .map((one) => ({ ...one, caller: callerOf(one.operation) }))
  .flatMap(({ method, path, operation, caller }) =>
    caller ? fieldsOf(operation).map((field) => ({ method: method.toUpperCase(), path, caller, ...field })) : [],
  )
const places = fields.filter((field): field is Place => isObject(field.name))

function callerOf({ security = [] }: Operation): Place['caller'] | undefined {
  const schemes = security.flatMap((one) => Object.keys(one))
  if (schemes.includes('userToken') && !security.some((one) => Object.keys(one).length === 0)) return 'user'
  return schemes.includes('agentToken') ? 'agent' : undefined
}

function fieldsOf({ parameters = [], requestBody }: Operation): Array<{ in: string; name: string }> {
  const content = requestBody && 'content' in requestBody ? Object.values(requestBody.content) : []
  const named = parameters.filter((one) => 'name' in one).map(({ in: place, name }) => ({ in: place, name }))
  return [...named, ...content.flatMap(({ schema }) => namesIn(schema).map((name) => ({ in: 'body', name })))]
}

/** Every name of a member, at any depth. */
function namesIn(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null) return []
  const { $ref, properties = {}, ...rest } = schema as { $ref?: string; properties?: object }
  const referred = $ref ? namesIn(schemas[$ref.replace('#/components/schemas/', '')]) : []
  const members = Object.entries(properties).flatMap(([name, inner]) => [name, ...namesIn(inner)])
  return [...referred, ...members, ...Object.values(rest).flatMap(namesIn)]
}

/** Eve's own session cannot be called without a trunk. */
const CALL = '/sessions/{id}/call'
const PRIVATE = 'only for whom it was said'

/** Ada (the victim) has an event in her session; Eve (the other one) is as real, and so is the agent. */
async function adaAndEve() {
  const s = await spoofScene()
  const { victim: ada, other: eve } = s
  await postWebhook(s, webhookEvent('participant_joined', ada.leg))
  expect((await s.progress(s.agent.bearer, ada.pair, {}, { secret: PRIVATE })).status).toBe(201)
  const thingsOf = async ({ user, pair, room }: Spoof['victim']): Promise<Record<Kind, string>> => ({
    session: pair.sessionId,
    user: pair.userId,
    room,
    // Behind which the other session is to be found.
    cursor: (await s.newSession(user)).pair.sessionId,
  })
  // Ids of one moment are in no order.
  s.clock.advance(1)
  return {
    s,
    ada: await thingsOf(ada),
    eve: await thingsOf(eve),
    adaIn: () => s.sfu.rooms.get(ada.room)?.participants.size,
  }
}

function agentBody(path: string, pair: Pair): Record<string, unknown> {
  if (path === CALL) return { userId: pair.userId, to: '+4930123456' }
  return { ...pair, ...(path.endsWith('progress') ? { data: {} } : {}) }
}

/** A request of Eve’s, or of the agent for her, that names her own things everywhere but at one place. */
async function ask(s: Spoof, place: Place, value: string, own: Record<Kind, string>) {
  const { method, path, name } = place
  const bearer = place.caller === 'agent' ? s.agent.bearer : s.other.user.bearer
  const pair = { userId: own.user, sessionId: own.session }
  const usual = place.caller === 'agent' ? agentBody(path, pair) : {}
  const body = { ...usual, ...(place.in === 'body' ? { [name]: value } : {}) }
  const query = { ...(method === 'GET' ? usual : {}), ...(place.in === 'query' ? { [name]: value } : {}) }
  const answer = await s.app.request(
    `${path.replace('{id}', place.in === 'path' ? value : own.session)}?${new URLSearchParams(query as never)}`,
    {
      method,
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${bearer}` },
      ...(method === 'GET' ? {} : { body: JSON.stringify(body) }),
    },
  )
  await s.background.idle()
  const text = await answer.text()
  const { code } = text.startsWith('{') ? (JSON.parse(text) as { code?: string }) : {}
  return { text, outcome: [answer.status, code].filter(Boolean).join(' ') }
}

test('every field of every user and agent operation is classified as naming an object or not', () => {
  const unknown = fields.filter(({ name }) => !isObject(name) && !NO_OBJECTS.includes(name))
  expect(unknown).toEqual([])
  // Otherwise the tests below would be empty.
  expect(places.length).toBeGreaterThanOrEqual(17)
})

describe.each(places)('$method $path, $name in the $in', (place) => {
  const kind = OBJECTS[place.name]

  test('user B gets nothing of user A’s objects (A38)', async () => {
    const { s, ada, eve, adaIn } = await adaAndEve()
    const before = await s.rows()
    const { text, outcome } = await ask(s, place, ada[kind], eve)
    if (kind === 'cursor') {
      expect(outcome).toBe('200')
      for (const { id } of JSON.parse(text).sessions) expect([eve.session, eve.cursor]).toContain(id)
    } else if (kind === 'room') expect(outcome).toBe('403 room_forbidden')
    else expect(outcome).toBe((await ask(s, place, `${kind}_of_nobody`, eve)).outcome)
    if (kind !== 'cursor' && kind !== 'room') expect(outcome).toMatch(REFUSED)
    expect(await s.rows()).toEqual(before)
    expect(text).not.toContain(PRIVATE)
    for (const [which, value] of Object.entries(ada)) if (which !== kind) expect(text).not.toContain(value)
    expect(adaIn()).toBe(1)
  })

  test('user B is let through with its own objects', async () => {
    const { s, eve } = await adaAndEve()
    const { outcome } = await ask(s, place, eve[kind], eve)
    expect(outcome).toMatch(place.path === CALL ? /^403 calls_disabled$/ : /^20[014]$/)
  })
})
