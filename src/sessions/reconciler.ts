import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { AppError } from '../errors.ts'
import { type LiveKit, LiveKitError, type Participant } from '../livekit/livekit.ts'
import type { Metrics } from '../metrics.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { RoomStore } from '../store/rooms.ts'
import type { Session, SessionStore } from '../store/sessions.ts'
import type { Assignments } from './assignments.ts'
import { AGENT_NAME } from './dispatch.ts'
import { answerFor, belongsTo, isUserOf } from './participants.ts'
import { createRemovalOrder } from './removal-order.ts'
import type { Sessions } from './sessions.ts'

interface ReconcilerDeps {
  sessions: Sessions
  store: { sessions: SessionStore; rooms: RoomStore }
  jobs: Pick<Assignments, 'calledOff'>
  livekit: LiveKit
  clock: Clock
  /** Live ones per user. */
  maxSessions: number
  log: Logger
  metrics: Pick<Metrics, 'reconciliationSeconds' | 'corrections' | 'sessions'>
}

interface Reconciler {
  /** One pass over all known rooms with a session or a participant. False when LiveKit did not answer everything. */
  reconcile(): Promise<boolean>
  /** Compares only the agents of one room, when one was lost there. @throws AppError `livekit_unavailable` */
  reconcileAgents(room: string, lost: Participant): Promise<void>
}

const UNFINISHED = ['pending', 'live', 'disconnected']
/** Concurrent queries to LiveKit. */
const CONCURRENCY = 8
/** Sessions written at once: enough to share a commit, few enough that no request waits long for them. */
const BATCH = 64
/** How long a pass starts room queries, and after them removals. The next pass begins with those it did not reach. */
const PHASE_MS = 5000
const TOO_SLOW = 'LiveKit answers too slowly for a whole reconciliation; the next one goes on where it stopped.'

/** Webhooks get lost, so LiveKit's API has the last word. */
export function createReconciler(deps: ReconcilerDeps): Reconciler {
  const { sessions, store, jobs, livekit, clock, maxSessions, log, metrics } = deps
  const { dispatcher, removal } = sessions
  const once = createSingleFlight<boolean>()
  for (const outcome of ['complete', 'incomplete']) metrics.reconciliationSeconds.zero({ outcome })
  const inOrder = createRemovalOrder()
  /** When LiveKit was last asked about each room. */
  let askedAbout = new Map<string, number>()
  /** The identities of the dispatched agents that were in each room. */
  const seenIn = new Map<string, Set<string>>()

  async function reconcile(): Promise<void> {
    const all = await store.sessions.listUnfinished()
    for (const status of UNFINISHED) metrics.sessions.set({ status }, all.filter((one) => one.status === status).length)
    // An instance may have died between a join and keeping the limit.
    const live = all.filter(({ status }) => status === 'live')
    for (const [userId, ofUser] of grouped(live, 'userId')) {
      if (ofUser.length > maxSessions) sessions.keepLimit({ userId })
    }
    const ended = await store.sessions.listToRemove()
    const askedAt = clock.steady()
    const listing = await orTick(all, livekit.listRooms())
    const listed = new Set(listing.map(({ name }) => name))
    const unfinished = grouped(all, 'room')
    const endedIn = grouped(ended, 'room')

    const unlisted = all.filter(({ room }) => !listed.has(room))
    await inBatches(unlisted, (session) => record(session, [], askedAt))
    await markRemoved(ended.filter(({ room }) => !listed.has(room)))
    // The counts may be seconds old: the next pass corrects them. Rooms with unfinished sessions are always queried.
    const occupied = listing.filter(({ participants }) => participants > 0).map(({ name }) => name)
    const toQuery = new Set(await store.rooms.filterKnown(occupied))
    for (const room of unfinished.keys()) if (listed.has(room)) toQuery.add(room)
    // In a room without unfinished sessions only agents may remain: removal ends their jobs.
    const toRemove = new Map<string, Session>()
    for (const { id, room } of ended) {
      const session = listed.has(room) && !unfinished.has(room) ? await store.sessions.find(id) : null
      if (session) toRemove.set(id, session)
    }
    askedAbout = new Map([...toQuery].map((room) => [room, askedAbout.get(room) ?? 0]))
    for (const room of seenIn.keys()) if (!toQuery.has(room)) seenIn.delete(room)
    const longestAgoFirst = [...askedAbout].sort(([, a], [, b]) => a - b).map(([room]) => room)
    const unanswered = await eachOf(longestAgoFirst, (room) =>
      reconcileRoom(room, unfinished.get(room) ?? [], endedIn.get(room) ?? [], toRemove),
    )
    // Last, and one attempt each: the next pass retries the rest.
    const unremoved = await eachOf(inOrder([...toRemove.values()]), (session) => removal.attempt(session))
    if (unanswered ?? unremoved) throw unanswered ?? unremoved
  }

  /** Adds to `toRemove` the ended sessions that still have a participant in the room. */
  async function reconcileRoom(room: string, ofRoom: Session[], ended: InRoom[], toRemove: Map<string, Session>) {
    const askedAt = clock.steady()
    askedAbout.set(room, askedAt)
    const participants = await orTick(ofRoom, livekit.listParticipants(room))
    await Promise.all(ofRoom.map((session) => record(session, participants, askedAt)))
    const isThere = (session: Session) => participants.some((participant) => belongsTo(session, participant))
    const named = new Set(participants.map(({ attributes }) => attributes.sessionId))
    for (const { id } of ofRoom) named.delete(id)
    for (const id of named) {
      const session = id === undefined ? null : await store.sessions.find(id)
      // An ended session's participant can come back with a token that LiveKit refreshed.
      if (session?.room === room && session.endedAt !== null && isThere(session)) toRemove.set(session.id, session)
    }
    if (ofRoom.length > 0) await markRemoved(ended.filter(({ id }) => !toRemove.has(id)))
    await settleAgents(room, ofRoom, participants)
  }

  async function markRemoved(ended: InRoom[]): Promise<void> {
    await inBatches(ended, (session) => removal.markRemoved(session, true))
  }

  /** LiveKit's answer. If there is none, these sessions still end at their time limit. */
  async function orTick<T>(ofThese: Session[], query: Promise<T>): Promise<T> {
    try {
      return await query
    } catch (error) {
      const joined = ofThese.filter(({ status }) => status !== 'pending')
      await inBatches(joined, ({ id }) => sessions.observe({ session: id }, { kind: 'clock', at: clock.steady() }))
      throw error
    }
  }

  /**
   * Removes agents whose account is disabled, and gives every user in the room the agent they were promised, even if its
   * worker registered later or was killed.
   */
  async function settleAgents(room: string, ofRoom: Session[], participants: Participant[]): Promise<void> {
    const agents = participants.filter(({ isAgent }) => isAgent)
    const names = ofRoom.flatMap(({ agentName }) => agentName ?? [])
    const disabled = await dispatcher.expelDisabled(room, agents, names)
    for (const { id, agentName } of ofRoom) {
      if (agentName !== null && disabled.has(agentName)) await jobs.calledOff(id, agentName)
    }
    const promised = ofRoom.filter((session) =>
      participants.some((who) => who.isActive && who.sid === session.dispatchedSid && isUserOf(session, who)),
    )
    const present = new Set(agents.map(({ identity }) => identity))
    const seen = seeIn(room, agents)
    for (const session of promised) {
      const { id, agentName } = session
      // A room with all of its agents needs no further query.
      const there = agents.filter(({ attributes }) => attributes[AGENT_NAME] === agentName).length
      if (there >= promised.filter((other) => other.agentName === agentName).length) continue
      if (!(await dispatcher.renew(session, present, seen))) continue
      log.warn({ sessionId: id, agent: agentName }, 'the agent is not in the room; its dispatch was recreated')
    }
  }

  function seeIn(room: string, agents: Participant[]): Set<string> {
    const seen = seenIn.get(room) ?? new Set()
    seenIn.set(room, seen)
    // Agents that joined by a token would be new ones each time.
    for (const { identity, attributes } of agents) if (attributes[AGENT_NAME]) seen.add(identity)
    return seen
  }

  async function record(session: Session, participants: Participant[], askedAt: number) {
    const changed = await sessions.observe({ session: session.id }, answerFor(session, participants, askedAt))
    // A session that ended is not a correction: it ended because time passed.
    if (changed && changed.session.endedAt === null && changed.session.status !== changed.before.session.status) {
      metrics.corrections.inc()
    }
  }

  /** Runs them a few at a time, for a limited time; if LiveKit fails for one, the others still run. Returns a failure. */
  async function eachOf<T>(items: T[], work: (item: T) => Promise<unknown>): Promise<unknown> {
    let failure: unknown
    const queue = items.values()
    const startedAt = clock.steady()
    async function worker() {
      for (const item of queue) {
        if (clock.steady() - startedAt > PHASE_MS) {
          failure ??= new AppError('livekit_unavailable', TOO_SLOW, { cause: new LiveKitError('timeout', TOO_SLOW) })
          return
        }
        try {
          await work(item)
        } catch (error) {
          if (!(error instanceof AppError && error.code === 'livekit_unavailable')) throw error
          failure = error
        }
      }
    }
    await Promise.all(Array.from({ length: CONCURRENCY }, worker))
    return failure
  }

  return {
    async reconcileAgents(room, lost) {
      const ofRoom = await store.sessions.listUnfinished(room)
      if (ofRoom.length === 0) return
      seeIn(room, [lost])
      await settleAgents(room, ofRoom, await livekit.listParticipants(room))
    },
    reconcile: () =>
      once('all', async () => {
        const stop = metrics.reconciliationSeconds.startTimer()
        try {
          await reconcile()
          stop({ outcome: 'complete' })
          return true
        } catch (err) {
          stop({ outcome: 'incomplete' })
          const { cause } = err as Error
          if (cause instanceof LiveKitError) log.warn({ livekit: cause.kind }, cause.message)
          else log.warn({ err }, 'reconciliation failed; it will be retried')
          return false
        }
      }),
  }
}

type InRoom = Pick<Session, 'id' | 'room'>

async function inBatches<T>(sessions: T[], write: (session: T) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < sessions.length; i += BATCH) await Promise.all(sessions.slice(i, i + BATCH).map(write))
}

function grouped<K extends string, T extends Record<K, string>>(sessions: T[], by: K): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const session of sessions) {
    const group = groups.get(session[by])
    if (group) group.push(session)
    else groups.set(session[by], [session])
  }
  return groups
}
