import { and, asc, desc, eq, isNotNull, isNull, lt, sql } from 'drizzle-orm'
import type { Clock } from '../clock.ts'
import type { Opened, SessionStore } from '../sessions/store.ts'
import type { Write } from './group-commit.ts'
import { reading } from './reading.ts'
import { oldSessions, pruneSessions, unusedSessions } from './retention.ts'
import { rooms, sessions, webhookEvents } from './schema.ts'
import { sessionColumns as columns, type SessionFactsTable } from './session-facts.ts'
import { type Db, param } from './sqlite.ts'

/** Sessions in SQLite. The rules are `lifecycle.ts`; here they are only loaded, applied and saved in one transaction. */
export function sqliteSessions(db: Db, write: Write, facts: SessionFactsTable, clock: Clock): SessionStore {
  const unfinished = isNull(sessions.endedAt)
  const find = db
    .select(columns)
    .from(sessions)
    .where(eq(sessions.id, param('id')))
    .prepare()
  const ofUser = eq(sessions.userId, param('userId'))
  const limited = param('limit')
  const newest = db.select(columns).from(sessions).where(ofUser).orderBy(desc(sessions.id)).limit(limited).prepare()
  const older = db
    .select(columns)
    .from(sessions)
    .where(and(ofUser, lt(sessions.id, param('before'))))
    .orderBy(desc(sessions.id))
    .limit(limited)
    .prepare()
  const allUnfinished = db.select(columns).from(sessions).where(unfinished).orderBy(asc(sessions.id)).prepare()
  const unfinishedIn = db
    .select(columns)
    .from(sessions)
    .where(and(unfinished, eq(sessions.room, param('room'))))
    .prepare()
  const unfinishedOf = db
    .select({ id: sessions.id, status: sessions.status })
    .from(sessions)
    .where(and(ofUser, unfinished))
    .orderBy(asc(sessions.id))
    .prepare()
  const toRemove = db
    .select(columns)
    .from(sessions)
    .where(and(isNotNull(sessions.endedAt), isNull(sessions.removedAt)))
    .orderBy(asc(sessions.endedAt))
    .prepare()
  const keepRoom = db
    .insert(rooms)
    .values({
      name: param('room'),
      ownerId: param('userId'),
      claimedAt: param('createdAt'),
      usedAt: param('createdAt'),
    })
    .onConflictDoUpdate({ target: rooms.name, set: { usedAt: sql`excluded.used_at` } })
    .prepare()
  const insert = db
    .insert(sessions)
    .values({
      id: param('id'),
      userId: param('userId'),
      room: param('room'),
      status: 'pending',
      createdAt: param('createdAt'),
      tokenExpiresAt: param('tokenExpiresAt'),
      agentName: param('agentName'),
      agentData: param('agentData'),
    })
    .prepare()
  const renew = db
    .update(sessions)
    .set({
      tokenExpiresAt: sql`max(${sessions.tokenExpiresAt}, ${param('tokenExpiresAt')})`,
      agentName: sql`coalesce(${param('agentName')}, ${sessions.agentName})`,
      agentData: sql`case when ${param('agentName')} is null then ${sessions.agentData} else ${param('agentData')} end`,
    })
    .where(and(eq(sessions.id, param('id')), unfinished))
    .returning(columns)
    .prepare()
  const insertWebhook = db
    .insert(webhookEvents)
    .values({ id: param('id'), receivedAt: param('receivedAt') })
    .onConflictDoNothing()
    .returning({ id: webhookEvents.id })
    .prepare()
  const newestWebhook = db
    .select({ at: sql<number | null>`max(${webhookEvents.receivedAt})` })
    .from(webhookEvents)
    .prepare()
  const listUnfinishedIn = (room: string) => unfinishedIn.all({ room })

  return {
    find: (id) => reading(() => find.get({ id }) ?? null),
    findWithFacts: (id) => reading(() => facts.load(id)),
    listByUser: (userId, limit, before) =>
      reading(() => (before === undefined ? newest.all({ userId, limit }) : older.all({ userId, limit, before }))),
    listUnfinished: (room) => reading(() => (room === undefined ? allUnfinished.all() : listUnfinishedIn(room))),
    listToRemove: () => reading(() => toRemove.all()),
    lastWebhookAt: () => reading(() => newestWebhook.get()?.at ?? null),

    open: (session, limits) =>
      write((): Opened => {
        const mine = unfinishedOf.all({ userId: session.userId })
        const pending = mine.filter(({ status }) => status === 'pending')
        if (mine.length - pending.length >= limits.maxSessions) return 'too_many'
        const excess = pending.slice(0, Math.max(0, pending.length - limits.maxPending + 1))
        for (const { id } of excess) {
          const known = facts.load(id)
          if (known) facts.apply(known, { kind: 'end', reason: 'superseded', at: clock.steady() })
        }
        keepRoom.run({ ...session })
        insert.run({ ...session })
        return 'opened'
      }),
    renew: (id, { tokenExpiresAt, agent }) =>
      write(() => {
        const params = { id, tokenExpiresAt, agentName: agent?.name ?? null, agentData: agent?.data ?? null }
        return renew.get(params) ?? null
      }),
    record: (id, fact, rules) =>
      write(() => {
        const known = facts.load(id)
        return known && facts.apply(known, fact, rules)
      }),
    end: (id, reason) =>
      write(() => {
        const known = facts.load(id)
        return known && facts.apply(known, { kind: 'end', reason, at: clock.steady() })
      }),
    endAsAgent: (id, note, rules) =>
      write(() => {
        const known = facts.load(id)
        if (!known || known.facts.end) return 'ended'
        const admission = facts.admission(known, rules)
        if (admission !== 'admitted') return admission
        return facts.apply(known, { kind: 'end', reason: 'agent', at: clock.steady() }, undefined, note)
      }),
    endOverLimit: ({ id, userId }, maxLive) =>
      write(() => {
        const live = unfinishedOf.all({ userId }).filter(({ status }) => status === 'live')
        if (!live.some((other) => other.id === id)) return []
        const tooMany = live.filter((other) => other.id !== id).slice(0, Math.max(0, live.length - maxLive))
        return tooMany.flatMap((other) => {
          const known = facts.load(other.id)
          return known ? facts.apply(known, { kind: 'end', reason: 'limit', at: clock.steady() }) : []
        })
      }),
    recordWebhook: ({ eventId, receivedAt, about, fact }, rules) =>
      write(() => {
        if (!insertWebhook.get({ id: eventId, receivedAt }) || !about || !fact) return []
        if (fact.kind === 'room_finished') facts.finishRoom(fact.roomSid, fact.at)
        const ids = 'room' in about ? listUnfinishedIn(about.room).map(({ id }) => id) : [about.sessionId]
        return ids.flatMap((id) => {
          const known = facts.load(id)
          return known ? facts.apply(known, fact, rules) : []
        })
      }),
    markRemoved: (id, isOut) =>
      write(() => {
        const removedAt = isOut ? clock.now() : null
        db.update(sessions).set({ removedAt }).where(eq(sessions.id, id)).run()
      }),
    markDispatched: (id, sid) =>
      write(() => {
        db.update(sessions).set({ dispatchedSid: sid, dispatchedAt: clock.steady() }).where(eq(sessions.id, id)).run()
      }),
    claimRedispatch: (id, olderThanMs) =>
      write(() => {
        const at = clock.steady()
        const due = and(eq(sessions.id, id), unfinished, lt(sessions.dispatchedAt, at - olderThanMs))
        return db.update(sessions).set({ dispatchedAt: at }).where(due).run().changes === 1
      }),
    pruneEnded: (endedBefore, limit) => write(() => pruneSessions(db, oldSessions(endedBefore), limit)),
    pruneUnused: (endedBefore, limit) => write(() => pruneSessions(db, unusedSessions(endedBefore), limit)),
    prune: (before, limit) =>
      write(() => {
        const oldWebhooks = sql`select id from webhook_events where received_at < ${before.webhooks} limit ${limit}`
        const oldRooms = sql`select room_sid from finished_rooms where finished_at < ${before.finishedRooms} limit ${limit}`
        const webhooks = db.run(sql`delete from webhook_events where id in (${oldWebhooks})`)
        return webhooks.changes + db.run(sql`delete from finished_rooms where room_sid in (${oldRooms})`).changes
      }),
  }
}
