import { sql } from 'drizzle-orm'
import {
  bigint,
  boolean,
  customType,
  index,
  integer,
  pgTable,
  primaryKey,
  timestamp,
  uniqueIndex,
} from 'drizzle-orm/pg-core'
import type { Agent } from '../agents.ts'
import type { JobEnd } from '../jobs.ts'
import type { EndReason, Status } from '../sessions.ts'

// The tables of the SQLite store, which explains their columns (../sqlite/schema.ts). JSON is text here too, so that the
// same bytes come back. Columns that a callback's update changes are in no index, so that PostgreSQL can update in place (HOT).

/** Compared byte by byte, as SQLite does: ids sort by time, whatever the database's locale. */
const text = <T extends string = string>(name = '') =>
  customType<{ data: T }>({ dataType: () => 'text collate "C"' })(name)

/** Milliseconds, or another whole number that can exceed 32 bits. */
const whole = (name: string) => bigint(name, { mode: 'number' })

export const clock = pgTable('clock', {
  id: integer().primaryKey(),
  now: whole('now').notNull(),
  steady: whole('steady').notNull(),
  latest: whole('latest').notNull(),
})

export const users = pgTable(
  'users',
  {
    id: text().primaryKey(),
    email: text(),
    name: text(),
    passwordHash: text('password_hash'),
    createdAt: whole('created_at').notNull(),
    seenAt: whole('seen_at').notNull(),
    /** Incremented by every decision about the user's unfinished sessions as a whole, so that two cannot cross. */
    sessionsVersion: integer('sessions_version').notNull().default(0),
  },
  (t) => [uniqueIndex('users_email').on(t.email), index('users_idle_guests').on(t.seenAt).where(sql`email is null`)],
)

export const refreshFamilies = pgTable(
  'refresh_families',
  {
    id: text().primaryKey(),
    userId: text('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    createdAt: whole('created_at').notNull(),
    expiresAt: whole('expires_at').notNull(),
    revokedAt: whole('revoked_at'),
    revokedReason: text('revoked_reason'),
  },
  (t) => [
    index('refresh_families_user').on(t.userId),
    index('refresh_families_expiry').on(t.expiresAt),
    index('refresh_families_revoked').on(t.revokedAt).where(sql`revoked_at is not null`),
  ],
)

export const refreshTokens = pgTable(
  'refresh_tokens',
  {
    hash: text().primaryKey(),
    familyId: text('family_id')
      .notNull()
      .references(() => refreshFamilies.id, { onDelete: 'cascade' }),
    createdAt: whole('created_at').notNull(),
    expiresAt: whole('expires_at').notNull(),
    usedAt: whole('used_at'),
  },
  (t) => [index('refresh_tokens_family').on(t.familyId)],
)

export const signingKeys = pgTable('signing_keys', {
  kid: text().primaryKey(),
  alg: text().notNull(),
  privateJwk: text('private_jwk').notNull(),
  createdAt: whole('created_at').notNull(),
  signsFrom: whole('signs_from').notNull(),
  expiresAt: whole('expires_at'),
})

export const storeSecrets = pgTable('store_secrets', {
  name: text().primaryKey(),
  value: text().notNull(),
  createdAt: whole('created_at').notNull(),
})

export const agents = pgTable('agents', {
  id: text().primaryKey(),
  secretHash: text('secret_hash').notNull(),
  sealedSecret: text('sealed_secret'),
  scopes: text().notNull(),
  oldSecretHash: text('old_secret_hash'),
  oldSealedSecret: text('old_sealed_secret'),
  oldSecretUntil: whole('old_secret_until'),
  generation: integer().notNull().default(1),
  createdAt: whole('created_at').notNull(),
  disabledAt: whole('disabled_at'),
  summon: text<Agent['summon']>().notNull().default('any'),
})

export const rooms = pgTable(
  'rooms',
  {
    name: text().primaryKey(),
    ownerId: text('owner_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    claimedAt: whole('claimed_at').notNull(),
    usedAt: whole('used_at').notNull(),
  },
  (t) => [index('rooms_used').on(t.usedAt), index('rooms_owner').on(t.ownerId)],
)

export const sessions = pgTable(
  'sessions',
  {
    id: text().primaryKey(),
    userId: text('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    signInId: text('sign_in_id'),
    room: text().notNull(),
    status: text<Status>().notNull(),
    createdAt: whole('created_at').notNull(),
    tokenExpiresAt: whole('token_expires_at').notNull(),
    endedAt: whole('ended_at'),
    endReason: text<EndReason>('end_reason'),
    agentName: text('agent_name'),
    agentData: text('agent_data'),
    agentDeployment: text('agent_deployment'),
    dispatchedSid: text('dispatched_sid'),
    dispatchedAt: whole('dispatched_at'),
    phoneSid: text('phone_sid'),
    callingSince: whole('calling_since'),
    removedAt: whole('removed_at'),
    lastSeq: whole('last_seq').notNull().default(0),
    eventBytes: whole('event_bytes').notNull().default(0),
    version: integer().notNull().default(0),
    /** True for those that no user joined: their end is their only event. */
    isUnused: boolean('is_unused').generatedAlwaysAs(sql`removed_at is not null and last_seq = 1`),
  },
  (t) => [
    index('sessions_user').on(t.userId, t.id),
    index('sessions_user_unfinished').on(t.userId).where(sql`ended_at is null`),
    index('sessions_room').on(t.room, t.endedAt),
    index('sessions_removed').on(t.endedAt).where(sql`removed_at is not null`),
    index('sessions_never_joined').on(t.endedAt).where(sql`is_unused`),
    index('sessions_to_remove').on(t.endedAt).where(sql`ended_at is not null and removed_at is null`),
  ],
)

export const presences = pgTable(
  'presences',
  {
    sid: text().notNull(),
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    roomSid: text('room_sid'),
    joinedAt: whole('joined_at'),
    seenAt: whole('seen_at'),
    confirmedAt: whole('confirmed_at'),
    leftAt: whole('left_at'),
    leftReason: text('left_reason'),
    misses: integer().notNull().default(0),
    missedAt: whole('missed_at'),
  },
  (t) => [primaryKey({ columns: [t.sessionId, t.sid] })],
)

export const finishedRooms = pgTable(
  'finished_rooms',
  {
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    roomSid: text('room_sid').notNull(),
    finishedAt: whole('finished_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.sessionId, t.roomSid] })],
)

export const events = pgTable(
  'events',
  {
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    seq: whole('seq').notNull(),
    type: text().notNull(),
    data: text().notNull(),
    agentId: text('agent_id'),
    createdAt: whole('created_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.sessionId, t.seq] })],
)

export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    agentId: text('agent_id').notNull(),
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    key: text().notNull(),
    payloadHash: text('payload_hash').notNull(),
    seq: whole('seq').notNull(),
    createdAt: whole('created_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.sessionId, t.agentId, t.key] }), index('idempotency_keys_age').on(t.createdAt)],
)

export const auditEntries = pgTable(
  'audit_entries',
  {
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    minute: whole('minute').notNull(),
    agentId: text('agent_id').notNull(),
    route: text().notNull(),
    outcome: text().notNull(),
    count: integer().notNull(),
    firstAt: whole('first_at').notNull(),
    lastAt: whole('last_at').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.sessionId, t.minute, t.agentId, t.route, t.outcome] }),
    index('audit_entries_agent').on(t.agentId, t.minute),
  ],
)

export const agentRefusals = pgTable(
  'agent_refusals',
  {
    agentId: text('agent_id').notNull(),
    minute: whole('minute').notNull(),
    route: text().notNull(),
    outcome: text().notNull(),
    count: integer().notNull(),
    firstAt: whole('first_at').notNull(),
    lastAt: whole('last_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.agentId, t.minute, t.route, t.outcome] }), index('agent_refusals_age').on(t.lastAt)],
)

export const jobs = pgTable(
  'jobs',
  {
    id: text().primaryKey(),
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    agentId: text('agent_id').notNull(),
    workerId: text('worker_id').notNull(),
    assignedAt: whole('assigned_at').notNull(),
    endedAt: whole('ended_at'),
    endedSteady: whole('ended_steady'),
    end: text<JobEnd>(),
    /** Orders jobs that were assigned in the same millisecond. */
    ordinal: whole('ordinal').generatedAlwaysAsIdentity(),
  },
  (t) => [index('jobs_session').on(t.sessionId, t.agentId)],
)

export const webhookEvents = pgTable(
  'webhook_events',
  {
    id: text().primaryKey(),
    receivedAt: whole('received_at').notNull(),
  },
  (t) => [index('webhook_events_age').on(t.receivedAt)],
)

/** UNLOGGED, in the migration: counting waits for no disk, and a crash of PostgreSQL empties the table. */
export const rateWindows = pgTable(
  'rate_windows',
  {
    /** Hash of the limit's name and the key that is counted. */
    id: text().primaryKey(),
    count: integer().notNull(),
    endsAt: timestamp('ends_at', { withTimezone: true }).notNull(),
  },
  (t) => [index('rate_windows_end').on(t.endsAt)],
)

/** When each kind of regular work, done by one instance for all, is next due. */
export const turns = pgTable('turns', {
  name: text().primaryKey(),
  nextAt: timestamp('next_at', { withTimezone: true }).notNull(),
})
