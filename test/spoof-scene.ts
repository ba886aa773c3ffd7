import type { JWTPayload } from 'jose'
import { onTestFinished } from 'vitest'
import { DEFAULT_SCOPES } from '../src/auth/scopes.ts'
import { newDatabase, stored } from './database.ts'
import { sign } from './forged.ts'
import { type Pair, scene } from './scene.ts'

export const ROUTES = ['POST /agent/progress', 'POST /agent/session/end', 'GET /agent/context'] as const
export type CallbackRoute = (typeof ROUTES)[number]

/** Two users whom LiveKit confirms to be in rooms of their own, an agent that may do everything, and what is stored. */
export async function spoofScene() {
  const databaseUrl = await newDatabase({ lasts: true })
  const s = await scene({ databaseUrl })
  onTestFinished(() => s.background.idle())
  const agent = await s.newAgent('tutor', [...DEFAULT_SCOPES, 'calls:place'])
  const victim = await s.present()
  const other = await s.present()
  for (const { pair } of [victim, other]) await s.context(agent.bearer, pair)
  return {
    ...s,
    agent,
    victim,
    other,
    /** Every row of every table but the trail of refusals, as another process sees them. */
    rows: async (): Promise<Record<string, unknown[]>> => ({
      ...(await stored(databaseUrl)),
      agent_refusals: [],
      rate_windows: [],
    }),
    signed: (payload: JWTPayload) => sign(s, payload),
  }
}

export type Spoof = Awaited<ReturnType<typeof spoofScene>>

export interface Attempt {
  /** The whole header; null for none. By default the agent's own bearer. */
  authorization?: string | null
  /** By default the victim's. */
  pair?: Pair
  query?: Record<string, string>
}

/** A callback that would be accepted, but for what is given. */
export function attempt(s: Spoof, route: CallbackRoute, { authorization, pair, query = {} }: Attempt) {
  const [method = '', path = ''] = route.split(' ')
  const header = authorization === undefined ? `Bearer ${s.agent.bearer}` : authorization
  const named = pair ?? s.victim.pair
  const isGet = method === 'GET'
  const search = new URLSearchParams({ ...(isGet ? named : {}), ...query })
  return s.app.request(`${path}?${search}`, {
    method,
    headers: { 'Content-Type': 'application/json', ...(header === null ? {} : { Authorization: header }) },
    ...(isGet ? {} : { body: JSON.stringify(route === 'POST /agent/progress' ? { ...named, data: {} } : named) }),
  })
}
