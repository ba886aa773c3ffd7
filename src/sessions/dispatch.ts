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
   * Recreates the dispatch if its agent is not in the room (`present`, by identity): no worker was registered when
   * LiveKit offered the job, or the job was lost with its worker. An agent that was there before (`seen`) is lost; any
   * other may still be joining.
   * @returns whether it did. @throws AppError `livekit_unavailable`
   */
  renew(session: Session, present: ReadonlySet<string>, seen: ReadonlySet<string>): Promise<boolean>
  /**
   * Removes those of the room's `agents` whose account is disabled, recognised by LiveKit's name for them or by the
   * jobs of the `promised` accounts. Their dispatches stay, so that an agent that comes back is recognised too.
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
/** How long a claim to create a dispatch lasts; then another instance may, in case the first one died. */
const CREATED_WITHIN_MS = 10_000
/** How long after its claim an instance may still ask LiveKit, which may act up to 5 s after it stopped answering. */
const ASKED_WITHIN_MS = 5000

export function createDispatcher({ store, accounts, livekit, clock, jobMetadata }: DispatcherDeps): Dispatcher {
  const ensuring = createSingleFlight<void>()

  const dispatchesOf = async ({ id, room }: Session): Promise<Dispatch[]> =>
    (await livekit.listDispatches(room)).filter(({ attributes }) => attributes.sessionId === id)

  /** The dispatches of the session's agent; deletes those of an agent that the user has replaced. */
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

  /** Compare-and-swap: on all instances together one caller gets a claim, and creates a dispatch; others get null. */
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
   * Creates a dispatch under a claim, in place of `old` ones. If LiveKit may have created it without answering, the
   * claim stays: no other dispatch is created until it expires, and then LiveKit is asked which ones it has.
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
    // A claim is also lost to an instance that found this dispatch; only one that created another makes this one extra.
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
        // Another instance may have created it just before the claim.
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

/** For a job's agent LiveKit names the account; with a join token from this service, the identity begins with it. */
const accountOf = ({ attributes, identity }: Participant): string =>
  attributes[AGENT_NAME] || (identity.split('#')[0] ?? identity)

type JobSubject = Pick<Session, 'id' | 'userId' | 'room'> & SessionAgent

/**
 * The session's dispatch, if it has an agent. The pair is in the job's attributes, which only the service writes, and
 * from the second job on its `attempt`. The metadata, the client's own or JSON, is for the agent: the service never
 * reads it.
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
