import type { Clock } from '../clock.ts'
import type { Config } from '../config.ts'
import type { LiveKit } from '../livekit/livekit.ts'
import type { AgentStore } from '../store/agents.ts'
import type {
  Changed,
  EndReason,
  Known,
  ReceivedWebhook,
  Session,
  SessionAgent,
  SessionEvent,
  SessionStore,
  Which,
} from '../store/sessions.ts'
import type { Background } from './background.ts'
import { createDispatcher, type Dispatcher } from './dispatch.ts'
import {
  admittedUntil,
  beyondLimit,
  type Caller,
  differs,
  type EndNote,
  type Fact,
  isOverQuota,
  makingWay,
  observe,
  openPresences,
  type Refusal,
  type Renewal,
  type Report,
  type Rules,
  renewed,
  replayOf,
  reported,
  type SessionLimits,
  type Succession,
  signedOut,
} from './lifecycle.ts'
import { createRemoval, type Removal } from './removal.ts'

export interface SessionsDeps {
  store: SessionStore
  accounts: Pick<AgentStore, 'findAgent'>
  livekit: LiveKit
  background: Background
  clock: Clock
  rules: Rules
  limits: SessionLimits
  jobMetadata: Config['jobMetadata']
}

/** A session as its first join token is minted. */
type NewSession = Pick<Session, 'id' | 'userId' | 'signInId' | 'room' | 'createdAt' | 'tokenExpiresAt'> & SessionAgent

/** One session, as it is stored now or as it was loaded before. */
type One = { session: string } | { known: Known }

/** The limits for one callback, in milliseconds; the transaction that writes checks them again. */
export interface AdmissionRules {
  /** How long LiveKit's confirmation stays valid. */
  livenessMs: number
  /** How long after the user left the callback is still accepted; 0 for never. */
  wrapUpMs: number
}

export interface Admission extends AdmissionRules {
  caller: Caller
}

/**
 * The operations on sessions. Each decides by the rules, commits, and then does in the background what the change
 * requires: removing participants and dispatching agents in LiveKit, ending sessions beyond a limit.
 */
export interface Sessions {
  /** False when the user has too many sessions. */
  open(session: NewSession): Promise<boolean>
  /** Records a new join token for an unfinished session; null when the session has ended or is unknown. */
  renew(id: string, renewal: Renewal): Promise<Session | null>
  /** Applies one fact; null for an unknown session. */
  observe(which: One, fact: Fact): Promise<Changed | null>
  /**
   * Applies a webhook's fact, once per webhook id, to one session or to all unfinished ones in a room. False if the id was
   * received before.
   */
  receive(webhook: ReceivedWebhook, which: Which | null, fact: Fact | null): Promise<boolean>
  /** Ends the session unless it has ended already; null for an unknown session. */
  end(id: string, reason: EndReason): Promise<Session | null>
  /** Ends the user's unfinished sessions, except those of the sign-ins that are `kept` and those that `next` takes over. */
  signOut(userId: string, kept: readonly string[], next?: Succession): Promise<void>
  /** Ends the session at its agent's request, if the callback is admitted. */
  endAsAgent(known: Known, note: EndNote, admission: Admission): Promise<Session | Refusal>
  /** Stores an agent's event if the callback is admitted, or returns the event that its key stored before. */
  report(known: Known, report: Report, admission: Admission): Promise<SessionEvent | Refusal | 'key_reused'>
  /** Ends live sessions beyond the limit: `open` does not count pending ones against it, so a join can exceed it. */
  keepLimit(user: Pick<Session, 'userId'>): void
  dispatcher: Dispatcher
  removal: Removal
}

export function createSessions(deps: SessionsDeps): Sessions {
  const { store, livekit, background, clock, rules, limits } = deps
  const dispatcher = createDispatcher(deps)
  const removal = createRemoval({ store, livekit, dispatcher, clock })

  const ended = (known: Known, reason: EndReason, note?: EndNote) =>
    observe(known, { kind: 'end', reason, at: clock.steady() }, rules, clock.now(), note)

  /** Starts what a committed change requires; the caller does not wait for it. */
  function followUp({ session, facts, before }: Changed): void {
    if (session.status === 'ended') {
      const isNew = before.session.status !== 'ended'
      if (isNew && session.removedAt === null) background.run('remove', () => removal.remove(session))
      return
    }
    if (session.status === 'live' && before.session.status !== 'live') keepLimit(session)
    const newest = openPresences(facts).sort((a, b) => (b.joinedAt ?? 0) - (a.joinedAt ?? 0))[0]
    if (newest && session.agentName !== null && session.dispatchedSid !== newest.sid) {
      background.run('dispatch', () => dispatcher.ensure(session, newest.sid))
    }
  }

  const keepLimit = ({ userId }: Pick<Session, 'userId'>) =>
    background.run('limit', () =>
      changeAll(userId, (unfinished) => beyondLimit(unfinished, limits).map((known) => ended(known, 'limit'))),
    )

  /** Applies a decision to the user's unfinished sessions, then follows up. */
  async function changeAll(userId: string, decide: (unfinished: Known[]) => Changed[]): Promise<void> {
    const changed = await store.change({ unfinishedOf: userId }, (unfinished) => {
      const changed = decide(unfinished)
      return { changed, result: changed }
    })
    changed.forEach(followUp)
  }

  /** Applies a decision to one session, then follows up. */
  async function changeOne(which: One, decide: (known: Known) => Changed): Promise<Changed | null> {
    const changed = await store.change(which, ([known]) => {
      if (!known) return { result: null }
      const changed = decide(known)
      if (differs(changed)) return { changed: [changed], result: changed }
      // Nothing is saved, so the version must not advance: a later decision on these facts has to notice other changes.
      return { result: { ...changed, session: known.session } }
    })
    if (changed) followUp(changed)
    return changed
  }

  const admitted = (known: Known, asked: Admission) =>
    admittedUntil(known, { ...asked, fresh: clock.fresh(asked.livenessMs), leftAfter: clock.since(asked.wrapUpMs) })

  return {
    keepLimit,
    dispatcher,
    removal,
    open: (session) =>
      store.change({ unfinishedOf: session.userId }, (unfinished) => {
        const superseded = makingWay(unfinished, limits)
        if (!superseded) return { result: false }
        return {
          changed: superseded.map((known) => ended(known, 'superseded')),
          opened: opening(session),
          result: true,
        }
      }),
    renew: (id, renewal) =>
      store.change({ session: id }, ([known]) => {
        if (!known || known.facts.end) return { result: null }
        const changed = renewed(known, renewal)
        return { changed: [changed], result: changed.session }
      }),
    observe: (which, fact) => changeOne(which, (known) => observe(known, fact, rules, clock.now())),
    async receive(webhook, which, fact) {
      const changed = await store.changeOnce(webhook, which, (known) => {
        const changed = fact ? known.map((one) => observe(one, fact, rules, clock.now())) : []
        return { changed: changed.filter(differs), result: changed }
      })
      changed?.forEach(followUp)
      return changed !== null
    },
    end: async (id, reason) => (await changeOne({ session: id }, (known) => ended(known, reason)))?.session ?? null,
    signOut: (userId, kept, next) =>
      changeAll(userId, (unfinished) => signedOut(unfinished, kept, { at: clock.steady(), now: clock.now() }, next)),
    async endAsAgent(known, note, asked) {
      const outcome = await store.change<Changed | Refusal>({ known }, ([now]) => {
        if (!now || now.facts.end) return { result: 'ended' }
        const validUntil = admitted(now, asked)
        if (typeof validUntil === 'string') return { result: validUntil }
        const changed = ended(now, 'agent', note)
        return { changed: [changed], validUntil, result: changed }
      })
      if (typeof outcome === 'string') return outcome
      followUp(outcome)
      return outcome.session
    },
    report: (known, report, asked) =>
      // Another request with the same key may have been stored since `known` was loaded.
      store.change<SessionEvent | Refusal | 'key_reused'>(
        report.key ? { session: known.session.id, key: report.key } : { known },
        ([now]) => {
          if (!now) return { result: 'ended' }
          const replay = replayOf(now, report.key)
          if (replay) return { result: replay }
          const validUntil = admitted(now, asked)
          if (typeof validUntil === 'string') return { result: validUntil }
          const changed = reported(now, report, clock.now())
          if (isOverQuota(changed, limits)) return { result: 'session_full' }
          return { changed: [changed], validUntil, result: changed.events[0] as SessionEvent }
        },
      ),
  }
}

const opening = (session: NewSession): Session => ({
  ...session,
  status: 'pending',
  endedAt: null,
  endReason: null,
  dispatchedSid: null,
  dispatchedAt: null,
  phoneSid: null,
  callingSince: null,
  removedAt: null,
  lastSeq: 0,
  eventBytes: 0,
  version: 0,
})
