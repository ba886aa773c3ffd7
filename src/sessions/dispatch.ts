import type { Clock } from '../clock.ts'
import type { Config } from '../config.ts'
import { type Dispatch, isRefusal, type LiveKit, type NewDispatch, type Participant } from '../livekit/livekit.ts'
import { createSingleFlight } from '../single-flight.ts'
import type { AgentStore } from '../store/agents.ts'
import type { Session, SessionAgent, SessionStore } from '../store/sessions.ts'
import { change } from './lifecycle.ts'

interface DispatcherDeps {
  store: SessionStore
  accounts: Pick<AgentStore, 'findAgent'>
  livekit: LiveKit
  clock: Clock
  jobMetadata: Config['jobMetadata']
}

/** None of these dispatches an agent whose account is disabled. */
export interface Dispatcher {
  /**
   * Ensures that the room has a dispatch that names this session, for the presence `sid`.
   * LiveKit reads the dispatch in a join token only at the join that creates the room.
   * @throws AppError `livekit_unavailable`; the reconciler retries.
   */
  ensure(session: Session, sid: string): Promise<void>
  /**
   * Recreates a dispatch whose agent is not among those in the room (`present`, by identity): no worker has taken it,
   * since LiveKit offers one only to the workers registered at that moment, or its job was lost with its worker. One that
   * was in the room before (`seen`) is lost; any other may still be on its way.
   * @returns whether it did. @throws AppError `livekit_unavailable`
   */
  renew(session: Session, present: ReadonlySet<string>, seen: ReadonlySet<string>): Promise<boolean>
  /**
   * Removes from the room those of its `agents` whose account is disabled, known by LiveKit's name for them or by the jobs
   * of the `promised` accounts. Their dispatches stay: they tell whose job an agent is that comes back.
   * @returns the disabled accounts. @throws AppError `livekit_unavailable`
   */
  expelDisabled(room: string, agents: Participant[], promised: string[]): Promise<ReadonlySet<string>>
  /** Ends the session's jobs in a room that exists. @throws AppError `livekit_unavailable` */
  stop(session: Session): Promise<void>
}

/** The attribute that LiveKit gives to the agents of its jobs. */
export const AGENT_NAME = 'lk.agent_name'
/** How long a worker may take to accept a job. */
const ACCEPTED_WITHIN_MS = 10_000
/** How long an accepted job's agent may take to join; doubled after every job that was lost, up to the limit. */
const JOINED_WITHIN_MS = 30_000
const MAX_BACKOFF_MS = 10 * 60_000
/** How long an instance may take to create a dispatch; then another may, as when the first one died. */
const CREATED_WITHIN_MS = 10_000
/** How long after its claim it may still ask LiveKit, which can take 5 s more although it no longer answers. */
const ASKED_WITHIN_MS = 5000

export function createDispatcher({ store, accounts, livekit, clock, jobMetadata }: DispatcherDeps): Dispatcher {
  const ensuring = createSingleFlight<void>()

  const dispatchesOf = async ({ id, room }: Session): Promise<Dispatch[]> =>
    (await livekit.listDispatches(room)).filter(({ attributes }) => attributes.sessionId === id)

  /** Those of the session's agent, after deleting those of an agent that the user has replaced. */
  async function currentOf(session: Session): Promise<Dispatch[]> {
    const all = await dispatchesOf(session)
    const isCurrent = ({ agentName }: Dispatch) => agentName === session.agentName
    await deleteAll(
      session.room,
      all.filter((dispatch) => !isCurrent(dispatch)),
    )
    return all.filter(isCurrent)
  }

  async function deleteAll(room: string, dispatches: Dispatch[]): Promise<void> {
    for (const { id } of dispatches) await livekit.deleteDispatch(room, id)
  }

  const isEnabled = async ({ agentName }: Session) =>
    agentName !== null && (await accounts.findAgent(agentName))?.disabledAt === null

  const isOverdue = ({ dispatchedAt }: Session, afterMs = ACCEPTED_WITHIN_MS) =>
    dispatchedAt !== null && clock.steady() - dispatchedAt > afterMs

  /** Stores that the dispatch exists for that presence. */
  const dispatched = ({ id }: Session, sid: string) =>
    store.change({ session: id }, ([known]) => {
      const values = { dispatchedSid: sid, dispatchedAt: clock.steady() }
      return { changed: known ? [change(known, values)] : [], result: undefined }
    })

  /** Compare-and-swap: a claim for exactly one caller of all instances, which then creates a dispatch; else null. */
  const claim = ({ id }: Session, isDue: (now: Session) => boolean) =>
    store.change<number | null>({ session: id }, ([known]) => {
      if (!known || known.facts.end || !isDue(known.session)) return { result: null }
      const { dispatchedSid, dispatchedAt } = known.session
      const isClaimed = dispatchedSid === null && dispatchedAt !== null && !isOverdue(known.session, CREATED_WITHIN_MS)
      if (isClaimed) return { result: null }
      const claimedAt = clock.steady()
      return { changed: [change(known, { dispatchedSid: null, dispatchedAt: claimedAt })], result: claimedAt }
    })

  /** Ends the caller's claim, unless it is `lost` to another instance or the session has `ended`. */
  const settle = ({ id }: Session, claimedAt: number, dispatchedSid: string | null) =>
    store.change<'held' | 'lost' | 'ended'>({ session: id }, ([known]) => {
      if (!known || known.facts.end) return { result: 'ended' }
      const { session } = known
      if (session.dispatchedSid !== null || session.dispatchedAt !== claimedAt) return { result: 'lost' }
      const dispatchedAt = dispatchedSid === null ? null : clock.steady()
      return { changed: [change(known, { dispatchedSid, dispatchedAt })], result: 'held' }
    })

  /**
   * Creates a dispatch under a claim, in place of others. If LiveKit may have created it without saying so, the claim
   * stays: until it is over no other dispatch is created, and then LiveKit is asked what it has.
   * @returns whether the claim held
   */
  async function create(session: Session, sid: string, dispatch: NewDispatch, claimedAt: number, old: Dispatch[] = []) {
    const { room } = session
    if (clock.steady() - claimedAt > ASKED_WITHIN_MS) return false
    const id = await livekit.createDispatch(room, dispatch).catch(async (error: Error) => {
      if (isRefusal(error)) await settle(session, claimedAt, null)
      throw error
    })
    await deleteAll(room, old)
    const claimed = await settle(session, claimedAt, sid)
    // Another instance may only have found this dispatch, or after a pause have created one too.
    const isExtra = claimed === 'ended' || (claimed === 'lost' && (await currentOf(session)).length > 1)
    if (isExtra) await livekit.deleteDispatch(room, id)
    return claimed === 'held'
  }

  return {
    ensure: (session, sid) =>
      ensuring(session.id, async () => {
        const dispatch = dispatchOf(session, jobMetadata)
        if (!dispatch) return
        if ((await currentOf(session)).length > 0 || !(await isEnabled(session))) return dispatched(session, sid)
        const claimedAt = await claim(session, ({ dispatchedSid }) => dispatchedSid !== sid)
        if (claimedAt === null) return
        // Another instance may have created it just before.
        if ((await currentOf(session)).length > 0) return dispatched(session, sid)
        await create(session, sid, dispatch, claimedAt)
      }),
    async renew(session, present, seen) {
      const { dispatchedSid, dispatchedAt } = session
      if (dispatchedSid === null || !isOverdue(session) || !(await isEnabled(session))) return false
      const dispatches = await currentOf(session)
      const jobs = dispatches.flatMap((dispatch) => dispatch.jobs)
      // An agent that has finished its work is not called back.
      if (jobs.some(({ identity, hasSucceeded }) => hasSucceeded || present.has(identity))) return false
      const attempt = Math.max(1, ...dispatches.map(({ attributes }) => Number(attributes.attempt) || 1))
      const dispatch = dispatchOf(session, jobMetadata, jobs.length > 0 ? attempt + 1 : attempt)
      const joinsWithin = Math.min(JOINED_WITHIN_MS * 2 ** (attempt - 1), MAX_BACKOFF_MS)
      const mayJoin = jobs.some(({ identity }) => !seen.has(identity))
      const afterMs = mayJoin || (attempt > 1 && jobs.length > 0) ? joinsWithin : ACCEPTED_WITHIN_MS
      const isDue = (now: Session) => now.dispatchedAt === dispatchedAt && isOverdue(now, afterMs)
      const claimedAt = dispatch && (await claim(session, isDue))
      if (!dispatch || claimedAt === null) return false
      return create(session, dispatchedSid, dispatch, claimedAt, dispatches)
    },
    async expelDisabled(room, agents, promised) {
      const disabled = new Set<string>()
      for (const name of new Set([...agents.map(accountOf), ...promised])) {
        const account = await accounts.findAgent(name)
        if (account && account.disabledAt !== null) disabled.add(name)
      }
      if (agents.length === 0 || disabled.size === 0) return disabled
      const dispatches = (await livekit.listDispatches(room)).filter(({ agentName }) => disabled.has(agentName))
      // An agent can change its own attributes, but not what LiveKit lists as its job.
      const ofJobs = new Set(dispatches.flatMap(({ jobs }) => jobs.map(({ identity }) => identity)))
      for (const agent of agents) {
        if (!disabled.has(accountOf(agent)) && !ofJobs.has(agent.identity)) continue
        await livekit.removeParticipant(room, agent.identity, clock.now())
      }
      return disabled
    },
    async stop(session) {
      if (session.agentName !== null) await deleteAll(session.room, await dispatchesOf(session))
    },
  }
}

/** LiveKit names the account of a job's agent; one that joined with a join token of the service has an identity that begins so. */
const accountOf = ({ attributes, identity }: Participant): string =>
  attributes[AGENT_NAME] || (identity.split('#')[0] ?? identity)

type JobSubject = Pick<Session, 'id' | 'userId' | 'room'> & SessionAgent

/**
 * The session's dispatch, if it has an agent. The pair is in the job's attributes, which only the service writes; `attempt`
 * counts the jobs from the second one on, after the job before was lost. The metadata is the client's own, or JSON of all:
 * either way it is for the agent, and the service reads nothing from it.
 */
export function dispatchOf(session: JobSubject, form: Config['jobMetadata'], attempt = 1): NewDispatch | null {
  const { id, userId, room, agentName, agentData, agentDeployment } = session
  if (agentName === null) return null
  const data = agentData === null ? {} : { data: agentData }
  const later = attempt > 1 ? { attempt } : {}
  return {
    agentName,
    metadata: form === 'json' ? JSON.stringify({ userId, sessionId: id, room, ...data, ...later }) : (agentData ?? ''),
    attributes: { userId, sessionId: id, ...(attempt > 1 ? { attempt: String(attempt) } : {}) },
    ...(agentDeployment === null ? {} : { deployment: agentDeployment }),
  }
}
