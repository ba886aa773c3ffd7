import { type SQL, sql } from 'drizzle-orm'
import type { PgTable } from 'drizzle-orm/pg-core'
import type { EventHints } from '../event-hints.ts'
import { type FactChanges, factChanges } from '../fact-changes.ts'
import {
  type Answered,
  type Decision,
  type EventRow,
  type Known,
  type Presence,
  type ReceivedWebhook,
  type Session,
  type SessionStore,
  toEvent,
  type Which,
} from '../sessions.ts'
import { userGone } from '../users.ts'
import { isInTime, type StoredClock } from './clock.ts'
import { type Connection, isRaceLost, type Postgres, unavailable } from './postgres.ts'
import { deleteSome, oldSessions, pruneSessions, unusedSessions } from './retention.ts'
import {
  agentRefusals,
  clock as clockTable,
  events,
  finishedRooms,
  idempotencyKeys,
  presences,
  sessions,
  users,
  webhookEvents,
} from './schema.ts'
import { asJson, columnsOf, names, param, recordset, selected, statement } from './statements.ts'

/** Attempts with locks. Even these can fail, by a deadlock or a session that enters the room meanwhile. */
const MAX_LOCKED = 5

/** A decision that is to be made, and the webhook that it is made once for. */
interface Change<T> {
  which: Which | null
  decide: (known: Known[]) => Decision<T>
  webhook?: ReceivedWebhook
}

/** What a decision is made on. The user's version guards the set of their unfinished sessions. */
interface Loaded {
  known: Known[]
  user?: { id: string; version: number }
}

/** Loads and saves sessions in PostgreSQL; the rules are elsewhere (`lifecycle.ts`). */
export function postgresSessions(db: Postgres, hints: Pick<EventHints, 'appended'>, time: StoredClock): SessionStore {
  const { clock } = time
  const inQueue = createQueues()

  /** Saves a decision in one statement. Null if what it was based on has changed, `expired` if its time is over. */
  async function carryOut<T>(
    on: Connection,
    decision: Decision<T>,
    { user }: Pick<Loaded, 'user'>,
    webhook?: ReceivedWebhook,
    commit = () => {},
  ) {
    const { changed = [], opened, validUntil, result } = decision
    if (opened && !user) throw userGone()
    if (!webhook && changed.length === 0 && !opened) return { result, appended: [] }
    const facts = changed.map(({ session, before, facts }) => ({
      sessionId: session.id,
      ...factChanges(before.facts, facts),
    }))
    const added = changed.flatMap(({ session, events }) =>
      events.map((event) => ({ ...event, data: JSON.stringify(event.data), sessionId: session.id })),
    )
    const keys = changed.flatMap(({ session, key }) =>
      key ? [{ ...key, sessionId: session.id, seq: session.lastSeq, createdAt: clock.steady() }] : [],
    )
    const each = (rows: (changes: FactChanges) => readonly object[]) =>
      facts.flatMap(({ sessionId, ...changes }) => rows(changes).map((row) => ({ sessionId, ...row })))
    const saved = saving.get(on, {
      changed: records.sessions(changed.map(({ session }) => session)),
      opened: records.sessions(opened ? [opened] : []),
      presences: records.presences(each(({ presences }) => presences)),
      forgotten: records.presences(each(({ forgotten }) => forgotten.map((sid) => ({ sid })))),
      finishedRooms: records.finishedRooms(
        each(({ finishedRooms }) => finishedRooms.map(([roomSid, finishedAt]) => ({ roomSid, finishedAt }))),
      ),
      forgottenRooms: records.finishedRooms(
        each(({ forgottenRooms }) => forgottenRooms.map((roomSid) => ({ roomSid }))),
      ),
      events: records.events(added),
      keys: records.keys(keys),
      userId: user?.id ?? null,
      userVersion: user?.version ?? null,
      webhookId: webhook?.id ?? null,
      receivedAt: webhook?.receivedAt ?? null,
      ...time.saveBounds(validUntil),
    })
    commit()
    const outcome = await saved
    if (outcome?.isInTime === false) return 'expired'
    if (!outcome?.isCurrent) return null
    return outcome.isNew
      ? { result, appended: added.map(({ sessionId }) => sessionId) }
      : { result: null, appended: [] }
  }

  /** Decides on what is stored now. */
  async function attempt<T>({ which, decide, webhook }: Change<T>, isLocking: boolean) {
    const run = async (on: Connection, commit?: () => void) => {
      if (which === null) return carryOut(on, decide([]), {}, webhook)
      // All are sent at once, the locks first: the load, a statement of its own, sees what they waited for.
      const locking = isLocking ? locks(on, which) : []
      const [loaded] = await Promise.all([loadAll(on, which), ...locking])
      return carryOut(on, decide(loaded.known), loaded, webhook, commit)
    }
    return isLocking ? db.transaction(run) : run(db)
  }

  /** One decision at a time about the same sessions: simultaneous ones of one process would invalidate each other. */
  const changeIn = <T>(change: Change<T>) =>
    change.which ? inQueue(keyOf(change.which), (hasWaited) => changeNow(change, hasWaited)) : changeNow(change, false)

  /** Decides without locks first; if another change comes first, again with locks. */
  async function changeNow<T>(change: Change<T>, hasWaited: boolean) {
    const { which, decide, webhook } = change
    const attempts = [false, ...Array<boolean>(MAX_LOCKED).fill(true)].map(
      (isLocking) => () => attempt(change, isLocking),
    )
    // After waiting for another decision, `known` is most likely out of date.
    if (which && 'known' in which && !hasWaited) {
      const decision = decide([which.known])
      // Only a save checks the version. A decision that saves nothing is made again on what is stored.
      if (decision.changed?.length) attempts.unshift(() => carryOut(db, decision, {}, webhook))
    }
    for (const one of attempts) {
      const done = await one().catch((error: unknown) => {
        if (isRaceLost(error)) return null
        throw error
      })
      // This process's time may be behind the database's, and would admit it again.
      if (done === 'expired') await time.save()
      if (!done || done === 'expired') continue
      // Only after the commit: listeners then read the store.
      for (const sessionId of done.appended) hints.appended(sessionId)
      return done.result
    }
    throw unavailable(new Error('Other changes to the sessions came first in every attempt'))
  }

  return {
    change: (which, decide) => changeIn({ which, decide }) as never,
    changeOnce: (webhook, which, decide) => changeIn({ which, decide, webhook }),
    find: async (id) => (await find.get(db, { id })) ?? null,
    load: async (id, key) => (await loadAll(db, { session: id, key: key ?? null })).known[0] ?? null,
    listByUser: (userId, limit, before) =>
      before === undefined ? newest.all(db, { userId, limit }) : older.all(db, { userId, limit, before }),
    listUnfinished: (room) => (room === undefined ? unfinished.all(db) : inRoom.all(db, { room })),
    listToRemove: () => toRemove.all(db),
    lastWebhookAt: async () => (await newestWebhook.get(db))?.at ?? null,
    async prune(old, limit) {
      const deleted = [
        await deleteSome(db, agentRefusals, sql`last_at < ${old.ended}`, limit),
        await deleteSome(db, webhookEvents, sql`received_at < ${old.webhooks}`, limit),
        await deleteSome(db, idempotencyKeys, sql`created_at < ${old.keys}`, limit),
        await pruneSessions(db, unusedSessions(old.unused), limit),
        await pruneSessions(db, oldSessions(old.ended), limit),
      ]
      return Math.max(...deleted)
    },
  }
}

function keyOf(which: Which): string {
  if ('unfinishedOf' in which) return `user ${which.unfinishedOf}`
  if ('unfinishedIn' in which) return `room ${which.unfinishedIn}`
  return 'known' in which ? which.known.session.id : which.session
}

/** How long a decision waits in its queue: as long as a request waits for a connection. */
const MAX_WAIT_MS = 5000

/** Runs work with the same key one at a time; what waits holds no connection. */
function createQueues() {
  const last = new Map<string, Promise<unknown>>()
  return async function inQueue<T>(key: string, work: (hasWaited: boolean) => Promise<T>): Promise<T> {
    const waitsSince = performance.now()
    const before = last.get(key)
    const turn = (async () => {
      await before?.catch(() => {})
      if (performance.now() - waitsSince > MAX_WAIT_MS) throw unavailable(new Error('Too many changes are waiting'))
      return work(before !== undefined)
    })()
    last.set(key, turn)
    try {
      return await turn
    } finally {
      if (last.get(key) === turn) last.delete(key)
    }
  }
}

const records = {
  sessions: recordset(sessions),
  presences: recordset(presences),
  finishedRooms: recordset(finishedRooms),
  events: recordset(events),
  keys: recordset(idempotencyKeys),
}

const find = statement<Session>('session', sql`select ${selected(sessions)} from ${sessions} where id = ${param('id')}`)
const list = (name: string, rest: SQL) =>
  statement<Session>(name, sql`select ${selected(sessions)} from ${sessions} ${rest}`)
const newest = list('sessions_newest', sql`where user_id = ${param('userId')} order by id desc limit ${param('limit')}`)
const older = list(
  'sessions_older',
  sql`where user_id = ${param('userId')} and id < ${param('before')} order by id desc limit ${param('limit')}`,
)
const unfinished = list('sessions_unfinished', sql`where ended_at is null order by id`)
const inRoom = list('sessions_in_room', sql`where ended_at is null and room = ${param('room')} order by id`)
const toRemove = statement<Pick<Session, 'id' | 'room'>>(
  'sessions_to_remove',
  sql`select id, room from ${sessions} where ended_at is not null and removed_at is null order by ended_at`,
)
const newestWebhook = statement<{ at: number | null }>(
  'webhook_newest',
  sql`select max(received_at) as at from ${webhookEvents}`,
)

/** A session with its facts, in one row so that both are from the same snapshot. */
interface Row extends Session {
  presences: Presence[]
  finishedRooms: Array<[roomSid: string, at: number]>
  answered?: { payloadHash: string; event: EventRow } | null
}

const withFacts = sql`${selected(sessions)},
  (select coalesce(json_agg(${asJson(presences, 'sessionId')} order by sid), '[]') from ${presences}
    where ${presences.sessionId} = ${sessions.id}) as "presences",
  (select coalesce(json_agg(json_build_array(room_sid, finished_at) order by room_sid), '[]') from ${finishedRooms}
    where ${finishedRooms.sessionId} = ${sessions.id}) as "finishedRooms"`
const answered = sql`(select json_build_object('payloadHash', payload_hash, 'event', ${asJson(events, 'sessionId')})
  from ${idempotencyKeys} join ${events} on ${events.sessionId} = ${idempotencyKeys.sessionId}
    and ${events.seq} = ${idempotencyKeys.seq}
  where ${idempotencyKeys.sessionId} = ${sessions.id} and ${idempotencyKeys.agentId} = ${param('agentId')}
    and ${idempotencyKeys.key} = ${param('key')}) as "answered"`

const loadOne = statement<Row>('session_load', sql`select ${withFacts} from ${sessions} where id = ${param('id')}`)
const loadKeyed = statement<Row>(
  'session_load_keyed',
  sql`select ${withFacts}, ${answered} from ${sessions} where id = ${param('id')}`,
)
const loadInRoom = statement<Row>(
  'sessions_load_in_room',
  sql`select ${withFacts} from ${sessions} where ended_at is null and room = ${param('room')} order by id`,
)
/** A user without unfinished sessions gets one row, whose session columns are null. */
const loadOfUser = statement<Row & { userVersion: number }>(
  'sessions_load_of_user',
  sql`select ${users.sessionsVersion} as "userVersion", ${withFacts} from ${users}
    left join ${sessions} on ${sessions.userId} = ${users.id} and ${sessions.endedAt} is null
    where ${users.id} = ${param('userId')} order by ${sessions.id}`,
)

export const lockUser = statement(
  'user_lock',
  sql`select from ${users} where id = ${param('userId')} for no key update`,
)
export const lockSession = statement(
  'session_lock',
  sql`select from ${sessions} where id = ${param('id')} for no key update`,
)
const lockAll = (name: string, which: SQL) =>
  statement(name, sql`select from ${sessions} where ended_at is null and ${which} order by id for no key update`)
const lockOfUser = lockAll('sessions_lock_of_user', sql`user_id = ${param('userId')}`)
const lockInRoom = lockAll('sessions_lock_in_room', sql`room = ${param('room')}`)

/** Always the user first, then sessions by id, so that two decisions cannot wait for each other. */
function locks(on: Connection, which: Which): Array<Promise<unknown>> {
  if ('unfinishedOf' in which) {
    const user = { userId: which.unfinishedOf }
    return [lockUser.run(on, user), lockOfUser.run(on, user)]
  }
  if ('unfinishedIn' in which) return [lockInRoom.run(on, { room: which.unfinishedIn })]
  return [lockSession.run(on, { id: 'known' in which ? which.known.session.id : which.session })]
}

async function loadAll(on: Connection, which: Which): Promise<Loaded> {
  if ('unfinishedOf' in which) {
    const rows = await loadOfUser.all(on, { userId: which.unfinishedOf })
    const [first] = rows
    return {
      known: rows.filter(({ id }) => id !== null).map(({ userVersion, ...row }) => toKnown(row)),
      ...(first ? { user: { id: which.unfinishedOf, version: first.userVersion } } : {}),
    }
  }
  if ('unfinishedIn' in which) {
    return { known: (await loadInRoom.all(on, { room: which.unfinishedIn })).map(toKnown) }
  }
  const key = 'session' in which ? which.key : null
  const id = 'session' in which ? which.session : which.known.session.id
  const found = key
    ? await loadKeyed.get(on, { id, agentId: key.agentId, key: key.key })
    : await loadOne.get(on, { id })
  return { known: found ? [toKnown(found)] : [] }
}

function toKnown({ presences, finishedRooms, answered, ...session }: Row): Known {
  const facts = {
    tokenExpiresAt: session.tokenExpiresAt,
    end: session.endReason,
    presences,
    finishedRooms: new Map(finishedRooms),
  }
  const event: Answered | null = answered ? { ...answered, event: toEvent(answered.event) } : null
  return { session, facts, answered: event }
}

const rowsOf = (table: PgTable, name: string): SQL => sql`json_populate_recordset(null::${table}, ${param(name)})`
/** Inserts these rows, if the decision has `passed`. */
const insertAll = (table: PgTable, name: string): SQL =>
  sql`insert into ${table} (${names(table)}) select ${names(table)} from ${rowsOf(table, name)}, passed`
const settable = (table: PgTable, prefix: string): SQL => {
  const columns = columnsOf(table).map(([, { name }]) => name)
  const raw = (parts: string[]) => sql.raw(parts.join(', '))
  return sql`(${raw(columns.map((name) => `"${name}"`))}) = (${raw(columns.map((name) => `${prefix}."${name}"`))})`
}

/**
 * Compare-and-swap of all that a decision changes, in one round trip. `held` locks the sessions that are as they were
 * loaded. Unless all are, in time, and the webhook is new, `passed` is empty and no part after it writes. `gate` needs
 * the count, so that it reads the clock only after `held` has waited for the locks.
 */
const saving = statement<{ isCurrent: boolean; isInTime: boolean; isNew: boolean }>(
  'sessions_save',
  sql`with
    owner as (
      update ${users} set sessions_version = sessions_version + 1
      where id = ${param('userId')} and sessions_version = ${param('userVersion')} returning id),
    changed as (select * from ${rowsOf(sessions, 'changed')}),
    held as (
      select ${sessions.id} from ${sessions} join changed on changed.id = ${sessions.id}
        and changed.version - 1 = ${sessions.version}
      where ${param('userId')}::text is null or exists (select from owner)
      order by ${sessions.id} for no key update of ${sessions}),
    counted as (select count(*) as held from held),
    gate as (
      select counted.held = (select count(*) from changed)
          and (${param('userId')}::text is null or exists (select from owner)) as is_current,
        ${isInTime} as is_in_time
      from counted, ${clockTable}),
    webhook as (
      insert into ${webhookEvents} select ${param('webhookId')}, ${param('receivedAt')} from gate
      where is_current and is_in_time and ${param('webhookId')}::text is not null on conflict do nothing returning id),
    passed as (
      select from gate
      where is_current and is_in_time and (${param('webhookId')}::text is null or exists (select from webhook))),
    updated as (
      update ${sessions} set ${settable(sessions, 'changed')} from changed, passed where ${sessions.id} = changed.id),
    opened as (select * from ${rowsOf(sessions, 'opened')}),
    inserted as (insert into ${sessions} (${names(sessions)}) select ${names(sessions)} from opened, passed),
    written as (
      ${insertAll(presences, 'presences')}
      on conflict (session_id, sid) do update set ${settable(presences, 'excluded')}),
    removed as (
      delete from ${presences} using ${rowsOf(presences, 'forgotten')} as old, passed
      where ${presences.sessionId} = old.session_id and ${presences.sid} = old.sid),
    finished as (
      ${insertAll(finishedRooms, 'finishedRooms')}
      on conflict (session_id, room_sid) do update set finished_at = excluded.finished_at),
    forgotten_rooms as (
      delete from ${finishedRooms} using ${rowsOf(finishedRooms, 'forgottenRooms')} as old, passed
      where ${finishedRooms.sessionId} = old.session_id and ${finishedRooms.roomSid} = old.room_sid),
    appended as (${insertAll(events, 'events')}),
    keyed as (${insertAll(idempotencyKeys, 'keys')})
    select is_current as "isCurrent", is_in_time as "isInTime", exists (select from passed) as "isNew" from gate`,
)
