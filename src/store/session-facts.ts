import { and, eq, isNull, sql } from 'drizzle-orm'
import type { Clock } from '../clock.ts'
import {
  type Admission,
  admit,
  apply,
  type EndReason,
  type Fact,
  type Presence,
  type Rules,
  type SessionFacts,
  statusOf,
} from '../sessions/lifecycle.ts'
import type { AdmissionRules, Change, EndNote, Session } from '../sessions/store.ts'
import type { AppendHints } from './append-hints.ts'
import { events, finishedRooms, presences, sessions } from './schema.ts'
import { type Db, param } from './sqlite.ts'

interface Known {
  session: Session
  facts: SessionFacts
}

export const sessionColumns = {
  id: sessions.id,
  userId: sessions.userId,
  room: sessions.room,
  status: sessions.status,
  createdAt: sessions.createdAt,
  tokenExpiresAt: sessions.tokenExpiresAt,
  endedAt: sessions.endedAt,
  endReason: sessions.endReason,
  agentName: sessions.agentName,
  agentData: sessions.agentData,
  dispatchedSid: sessions.dispatchedSid,
  dispatchedAt: sessions.dispatchedAt,
}

const NO_RULES: Rules = { reconnectMs: 0 }
/** Found only by this session's confirmed absence: there is nobody left to remove. */
const ABSENT = new Set<EndReason | null>(['left', 'never_joined'])

export type SessionFactsTable = ReturnType<typeof sessionFacts>

/** Loads and saves what is known of a session. Synchronous: callers hold the transaction. */
export function sessionFacts(db: Db, hints: AppendHints, clock: Clock) {
  const find = db
    .select(sessionColumns)
    .from(sessions)
    .where(eq(sessions.id, param('id')))
    .prepare()
  const presencesOf = db
    .select({
      sid: presences.sid,
      roomSid: presences.roomSid,
      joinedAt: presences.joinedAt,
      seenAt: presences.seenAt,
      confirmedAt: presences.confirmedAt,
      leftAt: presences.leftAt,
      leftReason: presences.leftReason,
      misses: presences.misses,
      missedAt: presences.missedAt,
    })
    .from(presences)
    .where(eq(presences.sessionId, param('sessionId')))
    .prepare()
  const finished = db
    .select({ at: finishedRooms.finishedAt })
    .from(finishedRooms)
    .where(eq(finishedRooms.roomSid, param('roomSid')))
    .prepare()
  const finishRoom = db
    .insert(finishedRooms)
    .values({ roomSid: param('roomSid'), finishedAt: param('at') })
    .onConflictDoUpdate({
      target: finishedRooms.roomSid,
      set: { finishedAt: sql`min(${finishedRooms.finishedAt}, excluded.finished_at)` },
    })
    .prepare()
  const savePresence = db
    .insert(presences)
    .values({
      sessionId: param('sessionId'),
      sid: param('sid'),
      roomSid: param('roomSid'),
      joinedAt: param('joinedAt'),
      seenAt: param('seenAt'),
      confirmedAt: param('confirmedAt'),
      leftAt: param('leftAt'),
      leftReason: param('leftReason'),
      misses: param('misses'),
      missedAt: param('missedAt'),
    })
    .onConflictDoUpdate({
      target: [presences.sessionId, presences.sid],
      set: {
        roomSid: sql`excluded.room_sid`,
        joinedAt: sql`excluded.joined_at`,
        seenAt: sql`excluded.seen_at`,
        confirmedAt: sql`excluded.confirmed_at`,
        leftAt: sql`excluded.left_at`,
        leftReason: sql`excluded.left_reason`,
        misses: sql`excluded.misses`,
        missedAt: sql`excluded.missed_at`,
      },
    })
    .prepare()
  const forgetPresence = db
    .delete(presences)
    .where(and(eq(presences.sessionId, param('sessionId')), eq(presences.sid, param('sid'))))
    .prepare()
  const saveEnd = db
    .update(sessions)
    .set({
      endedAt: sql`${param('at')}`,
      endReason: sql`${param('reason')}`,
      removedAt: sql`${param('removedAt')}`,
    })
    .where(and(eq(sessions.id, param('id')), isNull(sessions.endedAt)))
    .prepare()
  const saveStatus = db
    .update(sessions)
    .set({ status: sql`${param('status')}`, lastSeq: sql`${sessions.lastSeq} + 1` })
    .where(eq(sessions.id, param('id')))
    .returning({ seq: sessions.lastSeq })
    .prepare()
  const insertStatusEvent = db
    .insert(events)
    .values({
      sessionId: param('id'),
      seq: param('seq'),
      type: 'session.status',
      data: param('data'),
      createdAt: param('at'),
    })
    .prepare()

  function load(id: string): Known | null {
    const session = find.get({ id })
    if (!session) return null
    const known: Presence[] = presencesOf.all({ sessionId: id })
    const facts = {
      tokenExpiresAt: session.tokenExpiresAt,
      end: session.endReason,
      presences: known,
      finishedRooms: finishedAmong(known.map(({ roomSid }) => roomSid)),
    }
    return { session, facts }
  }

  /** Whether a callback may be written in this transaction. */
  function admission({ facts }: Known, { livenessMs, wrapUpMs }: AdmissionRules): Admission {
    const leftSince = wrapUpMs > 0 ? clock.steady() - wrapUpMs : null
    return admit(facts, { confirmedSince: clock.freshSince(livenessMs), leftSince })
  }

  function finishedAmong(roomSids: ReadonlyArray<string | null>): Map<string, number> {
    const found = new Map<string, number>()
    for (const roomSid of new Set(roomSids)) {
      const row = roomSid === null ? undefined : finished.get({ roomSid })
      if (roomSid !== null && row) found.set(roomSid, row.at)
    }
    return found
  }

  /** Applies one fact and saves what it changed, with an event when the status is another. */
  function applyFact({ session, facts: before }: Known, fact: Fact, rules = NO_RULES, note?: EndNote): Change {
    let after = apply(before, fact, rules)
    // A join may name a room that finished before anything else was known of this sid.
    if (fact.kind === 'joined')
      after = { ...after, finishedRooms: finishedAmong(after.presences.map((p) => p.roomSid)) }
    for (const presence of after.presences) {
      if (!before.presences.includes(presence)) savePresence.run({ ...presence, sessionId: session.id })
    }
    const kept = new Set(after.presences.map(({ sid }) => sid))
    for (const { sid } of before.presences) if (!kept.has(sid)) forgetPresence.run({ sessionId: session.id, sid })
    const now = clock.now()
    const isEnding = after.end !== null && before.end === null
    if (isEnding) {
      const removedAt = ABSENT.has(after.end) ? now : null
      saveEnd.run({ id: session.id, at: now, reason: after.end, removedAt })
    }
    const status = statusOf(after)
    if (status !== session.status) {
      const data = { status, ...(after.end ? { reason: after.end } : {}), ...note }
      const { seq } = saveStatus.get({ id: session.id, status }) as { seq: number }
      insertStatusEvent.run({ id: session.id, seq, data: JSON.stringify(data), at: now })
      hints.appended(session.id)
    }
    const endedAt = isEnding ? now : session.endedAt
    return { session: { ...session, endedAt, endReason: after.end, status }, before: session.status, facts: after }
  }

  return {
    load,
    admission,
    apply: applyFact,
    finishRoom: (roomSid: string, at: number) => finishRoom.run({ roomSid, at }),
  }
}
