import type { Logger } from 'pino'
import type { UserToken } from '../auth/tokens.ts'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { newAgentIdentity, newId } from '../ids.ts'
import { JOIN_TOKEN_SECONDS, type JoinToken, type MintJoinToken } from '../livekit/join-token.ts'
import type { Assignments } from '../sessions/assignments.ts'
import { dispatchOf } from '../sessions/dispatch.ts'
import { isAgentOf } from '../sessions/lifecycle.ts'
import { type LivenessCheck, notLive } from '../sessions/liveness.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { Agent } from '../store/agents.ts'
import type { Session, SessionAgent } from '../store/sessions.ts'
import type { Store } from '../store/store.ts'
import { userGone } from '../store/users.ts'
import type { JoinRequest } from './request.ts'
import type { Rooms } from './rooms.ts'

interface MintDeps {
  store: Pick<Store, 'clock' | 'users' | 'agents' | 'sessions' | 'audit'>
  sessions: Sessions
  rooms: Rooms
  mintJoinToken: MintJoinToken
  liveness: LivenessCheck
  assignments: Pick<Assignments, 'hasJob'> | null
  config: Pick<Config, 'defaultAgent' | 'jobMetadata' | 'maxSessionsPerUser'>
  log: Pick<Logger, 'warn'>
}

/** Characters. The token travels in a URL beside other parameters, and many proxies take request lines up to 8 KiB. */
const MAX_TOKEN_LENGTH = 7 * 1024
/** Milliseconds between two warnings that the default agent cannot be dispatched. */
const WARN_EVERY_MS = 60_000

export interface Minted extends JoinToken {
  room: string
  identity: string
  name: string | null
  /** Null for an agent's token: agents join rooms but have no session. */
  sessionId: string | null
}

/** With `ROOM_POLICY=open` a room may hold any number of sessions; LiveKit is asked about so many of them. */
const MAX_ASKED = 8

/** As much of a session as its token is made of. */
type Joined = Pick<Session, 'id' | 'room'> & SessionAgent

const NO_AGENT: SessionAgent = { agentName: null, agentData: null, agentDeployment: null }

/** Join tokens for users, each with its session, and for agents, which have none. */
export function createJoinTokens(deps: MintDeps) {
  const { store, sessions, rooms, mintJoinToken, liveness, assignments, config, log } = deps
  const { clock, users, agents, audit } = store
  let warnedAt = Number.NEGATIVE_INFINITY

  /**
   * A join token for the user, and the session it belongs to: a new one, or the one named by `session_id`.
   * @throws AppError `identity_forbidden`, `agent_not_registered`, `metadata_too_large`, `room_forbidden`, `too_many_rooms`,
   * `session_not_found`, `session_ended`, `validation_failed` (another room than the session's), `too_many_sessions`,
   * `invalid_token` (the user or sign-in is gone), `livekit_unavailable` (only when LiveKit had to be asked)
   */
  async function forUser(caller: UserToken, request: JoinRequest): Promise<Minted> {
    const { userId } = caller
    if (request.identity !== undefined && request.identity !== userId) {
      throw AppError.field('identity_forbidden', 'identity', 'The identity is the signed-in user’s id. Leave it out.')
    }
    const user = await users.findUser(userId)
    if (!user) throw userGone()
    const agent = await registeredAgent(request.agent)
    const name = request.name ?? user.name
    const mintFor = (joined: Joined): Minted => {
      const { id, room } = joined
      const dispatch = dispatchOf({ ...joined, userId }, config.jobMetadata)
      const minted = mintJoinToken({
        identity: userId,
        room,
        name,
        metadata: JSON.stringify({ ...request.metadata, sessionId: id }),
        attributes: { ...request.attributes, sessionId: id, userId },
        roomConfig: { ...rooms.timeouts, agents: dispatch ? [dispatch] : undefined },
      })
      if (minted.token.length > MAX_TOKEN_LENGTH) throw tooLong(minted.token.length)
      return { ...minted, room, identity: userId, name, sessionId: id }
    }
    const { sessionId: id = newId('sess', clock.latest()), room = rooms.newName() } = request
    const joined = { id, room, ...agent }
    // Before anything is stored: what encoding adds to the length is only known of the token itself.
    const minted = mintFor(joined)
    if (request.sessionId !== undefined) return mintFor(await renewSession(userId, id, request, agent))
    await openSession(caller, request, joined)
    return minted
  }

  /** The agent to dispatch. Users join without the default agent rather than not at all; the log says why. */
  async function registeredAgent(requested: JoinRequest['agent']): Promise<SessionAgent> {
    const { name = config.defaultAgent, data, deployment } = requested
    if (name === undefined) return NO_AGENT
    const found = await agents.findAgent(name)
    const agent = requested.name !== undefined && found?.summon === 'none' ? null : found
    if (agent?.disabledAt === null) return { agentName: name, agentData: data, agentDeployment: deployment }
    if (requested.name !== undefined) {
      const unknown = `No agent that clients may choose is named ${name}.`
      const message = agent ? `The agent ${name} is disabled.` : unknown
      throw AppError.field('agent_not_registered', 'room_config.agents', message)
    }
    if (clock.steady() - warnedAt > WARN_EVERY_MS) {
      warnedAt = clock.steady()
      const why = agent ? 'is disabled' : 'names no agent account'
      const remedy = `npm run agent -- ${agent ? 'enable' : 'create'} ${name}`
      log.warn(`DEFAULT_AGENT=${name} ${why}, so users join without an agent. To change that: ${remedy}`)
    }
    return NO_AGENT
  }

  async function openSession({ userId, signInId }: UserToken, request: JoinRequest, joined: Joined): Promise<void> {
    const { room } = joined
    if (request.room !== undefined) await rooms.enter(room, userId)
    if (request.autoCreateRoom) await rooms.create(room)
    const tokenExpiresAt = clock.steady() + JOIN_TOKEN_SECONDS * 1000
    const session = { ...joined, userId, signInId, createdAt: clock.now(), tokenExpiresAt }
    if (!(await sessions.open(session))) {
      const limit = config.maxSessionsPerUser
      throw new AppError('too_many_sessions', `You are in ${limit} sessions now, which is the limit: end one first.`)
    }
    // A sign-in that ended before the session was stored did not end it.
    if (!(await users.isSignedIn(signInId, userId, clock.latest()))) {
      await sessions.end(session.id, 'signed_out')
      throw new AppError('invalid_token', 'The sign-in of this access token has ended: sign in again.')
    }
  }

  async function renewSession(userId: string, id: string, request: JoinRequest, agent: SessionAgent) {
    const known = await store.sessions.find(id)
    if (!known || known.userId !== userId) {
      throw AppError.field('session_not_found', 'session_id', 'You have no such session.')
    }
    if (request.room !== undefined && request.room !== known.room) {
      throw AppError.field('validation_failed', 'room', 'The session is in another room: leave the room out.')
    }
    await sessions.observe({ session: id }, { kind: 'clock', at: clock.steady() })
    if (request.autoCreateRoom && known.endedAt === null) await rooms.create(known.room)
    // A default agent does not replace the one that the session already has.
    const keepsAgent = agent.agentName === null || (request.agent.name === undefined && known.agentName !== null)
    const tokenExpiresAt = clock.steady() + JOIN_TOKEN_SECONDS * 1000
    const renewed = await sessions.renew(id, { tokenExpiresAt, ...(keepsAgent ? {} : agent) })
    if (!renewed) throw AppError.field('session_ended', 'session_id', 'That session has ended. Leave session_id out.')
    return renewed
  }

  /**
   * A join token for an agent with scope `rooms:join`: its own identity, no session of its own, and only for a room where
   * a user is now in a session that the agent was dispatched to, or in any one with `sessions:any`.
   * @throws AppError `validation_failed`, `room_required`, `identity_forbidden`, `room_not_found`, or as `notLive`
   */
  async function forAgent(agent: Agent, request: JoinRequest): Promise<Minted> {
    const { room, identity = newAgentIdentity(agent.id), name = agent.id } = request
    refuseUserFields(request)
    if (room === undefined) throw AppError.field('room_required', 'room', 'An agent must name the room that it joins.')
    if (request.identity !== undefined && identity !== agent.id) {
      throw AppError.field('identity_forbidden', 'identity', `This agent’s identity is ${agent.id}. Leave it out.`)
    }
    await admit(agent, room)
    const minted = mintJoinToken({ identity, room, name, kind: 'agent' })
    return { ...minted, room, identity, name, sessionId: null }
  }

  /** The checks of a callback, for whichever session of the agent's in the room has its user there. */
  async function admit(agent: Agent, room: string): Promise<void> {
    const decided = (outcome: string, sessionId: string | null) =>
      audit.record({ sessionId, agentId: agent.id, route: 'POST /token', outcome, at: clock.now() })
    const own = (await store.sessions.listUnfinished(room)).filter((session) => isAgentOf(session, agent)).reverse()
    const likelyFirst = own.sort((a, b) => Number(b.status === 'live') - Number(a.status === 'live'))
    // An agent learns no more of a room it does not belong in than of one that does not exist.
    const message = `No session of this agent’s is under way in the room ${room}.`
    let error = AppError.field('room_not_found', 'room', message)
    let refusedFor: string | null = null
    for (const { id } of likelyFirst.slice(0, MAX_ASKED)) {
      if (assignments && !(await assignments.hasJob(id, agent.id, 0))) continue
      const known = await store.sessions.load(id)
      const looked = known ? (await liveness(known)).liveness : 'ended'
      if (looked === 'live') return decided('allowed', id)
      if (looked === 'ended') continue
      error = notLive(looked)
      refusedFor = id
    }
    await decided(error.code, refusedFor)
    throw error
  }

  return { forUser, forAgent }
}

const tooLong = (length: number) =>
  AppError.field(
    'metadata_too_large',
    'participant_metadata',
    `With this metadata, attributes and agent metadata the join token has ${length} characters; ${MAX_TOKEN_LENGTH} fit through proxies.`,
  )

/** Session fields mean nothing for an agent: they are refused, because nothing that is sent is silently dropped. */
function refuseUserFields({ sessionId, autoCreateRoom, metadata, attributes, agent }: JoinRequest): void {
  const given = {
    session_id: sessionId !== undefined,
    auto_create_room: autoCreateRoom,
    participant_metadata: Object.keys(metadata).length > 0,
    participant_attributes: Object.keys(attributes).length > 0,
    'room_config.agents': Object.values(agent).some((value) => value !== undefined && value !== null),
  }
  for (const [field, isGiven] of Object.entries(given)) {
    if (isGiven) throw AppError.field('validation_failed', field, `${field} is only for users: leave it out.`)
  }
}

export type JoinTokens = ReturnType<typeof createJoinTokens>
