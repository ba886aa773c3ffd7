import { and, eq, isNull, sql } from 'drizzle-orm'
import {
  apply,
  type Fact,
  type Presence,
  type Rules,
  type SessionFacts,
  statusOf,
  timeOf,
} from '../sessions/lifecycle.ts'
import type { Change, EndNote, Session } from '../sessions/store.ts'
import type { AppendHints } from './append-hints.ts'
import { events, finishedRooms, presences, sessions } from './schema.ts'
import { type Db, param } from './sqlite.ts'

interface Known {
  session: Session
  facts: SessionFacts
}

const NO_RULES: Rules = { reconnectMs: 0 }
/** Found only by this session's confirmed absence: there is nobody left to remove. */
const ABSENT = new Set(['left', 'never_joined'])

/** Loads and saves what is known of a session. Synchronous: callers hold the transaction. */
export function sessionFacts(db: Db, hints: AppendHints) {
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

  function load(session: Session): SessionFacts {
    const { endedAt, endReason, tokenExpiresAt } = session
    const known: Presence[] = presencesOf.all({ sessionId: session.id })
    return {
      tokenExpiresAt,
      end: endedAt !== null && endReason !== null ? { at: endedAt, reason: endReason } : null,
      presences: known,
      finishedRooms: finishedAmong(known.map(({ roomSid }) => roomSid)),
    }
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
    if (after.end && !before.end) {
      const removedAt = ABSENT.has(after.end.reason) ? after.end.at : null
      saveEnd.run({ id: session.id, ...after.end, removedAt })
    }
    const status = statusOf(after)
    if (status !== session.status) {
      const at = timeOf(fact)
      const data = { status, ...(after.end ? { reason: after.end.reason } : {}), ...note }
      const { seq } = saveStatus.get({ id: session.id, status }) as { seq: number }
      insertStatusEvent.run({ id: session.id, seq, data: JSON.stringify(data), at })
      hints.appended(session.id)
    }
    const ended = { endedAt: after.end?.at ?? null, endReason: after.end?.reason ?? null }
    return { session: { ...session, ...ended, status }, before: session.status, facts: after }
  }

  return {
    load,
    apply: applyFact,
    finishRoom: (roomSid: string, at: number) => finishRoom.run({ roomSid, at }),
  }
}
