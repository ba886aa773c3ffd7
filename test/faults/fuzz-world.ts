import { FORGERIES, userClaims } from '../forged.ts'
import type { Scene } from '../scene.ts'
import { post } from '../support.ts'

export const CREDENTIALS = [
  'none',
  'user',
  'other',
  'member',
  'agent',
  'narrow',
  'disabled',
  'expired',
  'forged',
  'join',
  'refresh',
  'secret',
  'basic',
  'webhook',
  'nonsense',
] as const
export type Credential = (typeof CREDENTIALS)[number]

/**
 * What fields of these names may hold beside what their schema takes. What begins with a dollar sign exists only when the
 * request is sent: the world fills it in.
 */
export const MEANT_BY_NAME: Record<string, readonly unknown[]> = {
  userId: ['$user'],
  sessionId: ['$session'],
  session_id: ['$session'],
  id: ['$session', '$session', 'sess_unknown'],
  room: ['$room', 'lesson'],
  room_name: ['$room', null],
  identity: ['$user', null],
  participant_identity: ['$user', null],
  agent_name: ['$agent'],
  agentName: ['$agent', null],
  participant_metadata: ['{"a":1}', '{}', '[]', '{"userId":1}', '{"a":'],
  refresh_token: ['$refresh'],
  email: ['$email'],
  password: ['$password'],
  client_id: ['$agent'],
  client_secret: ['$secret'],
  scope: ['progress:write', 'rooms:join context:read', 'everything'],
  before: ['$session'],
}

/** Users, agents and sessions that requests can name, and credentials of most kinds. */
export async function newWorld(s: Scene, round: number) {
  const { user, pair, room, joinToken } = await s.present()
  const other = await s.newUser()
  const account = { email: `member${round}@example.com`, password: 'correct horse' }
  const registered = await (await post(s.app, '/auth/register', account)).json()
  const member = registered as Record<'access_token' | 'refresh_token', string>
  const agent = await s.newAgent(`tutor${round}`)
  const narrow = await s.newAgent(`narrow${round}`, ['context:read'])
  const disabled = await s.newAgent(`disabled${round}`)
  await s.accounts.disable(disabled.id)
  const bearers: Partial<Record<Credential, string>> = {
    user: user.bearer,
    other: other.bearer,
    member: member.access_token,
    agent: agent.bearer,
    narrow: narrow.bearer,
    disabled: disabled.bearer,
    expired: await FORGERIES.expired(s, userClaims(s, user)),
    forged: await FORGERIES['signed by somebody else under our kid'](s, userClaims(s, user)),
    join: joinToken,
    refresh: user.refreshToken,
    secret: agent.secret,
  }
  const values: Record<string, string> = {
    $user: user.id,
    $other: other.id,
    $session: pair.sessionId,
    $room: room,
    $agent: agent.id,
    $secret: agent.secret,
    $refresh: member.refresh_token,
    $email: account.email,
    $password: account.password,
    $now: String(Math.floor(s.clock.now() / 1000)),
  }
  return { bearers, agent, filled: (value: unknown) => filled(value, values) }
}

export type World = Awaited<ReturnType<typeof newWorld>>

/** The same with every placeholder that stands alone replaced. */
function filled(value: unknown, values: Record<string, string>): unknown {
  if (typeof value === 'string') return values[value] ?? value
  if (Array.isArray(value)) return value.map((inner) => filled(inner, values))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, filled(inner, values)]))
}
