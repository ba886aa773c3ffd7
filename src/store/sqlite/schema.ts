import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'
import { SUMMONERS } from '../agents.ts'
import { JOB_ENDS } from '../jobs.ts'
import { END_REASONS, STATUSES } from '../sessions.ts'

// Times are integers, milliseconds. Ids are text that the service generates. JSON is text.
// A column's use decides which of the clock's times (clock.ts) it holds: `now` if people read it, `latest` if it
// decides what has expired, `steady` for what is known of sessions and for idempotency keys.

/** One row: the clock as of the last write. The next process continues from there. */
export const clock = sqliteTable('clock', {
  id: integer().primaryKey(),
  now: integer().notNull(),
  steady: integer().notNull(),
  latest: integer().notNull(),
})

export const users = sqliteTable(
  'users',
  {
    id: text().primaryKey(),
    /** Lower case. Null for a guest. */
    email: text(),
    name: text(),
    /** PHC string. Null for a guest. */
    passwordHash: text('password_hash'),
    createdAt: integer('created_at').notNull(),
    /** Last sign-in or refresh, up to an hour too early; decides when an idle guest is pruned. */
    seenAt: integer('seen_at').notNull(),
  },
  (t) => [uniqueIndex('users_email').on(t.email), index('users_idle_guests').on(t.seenAt).where(sql`email is null`)],
)

export const refreshFamilies = sqliteTable(
  'refresh_families',
  {
    id: text().primaryKey(),
    userId: text('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    createdAt: integer('created_at').notNull(),
    /** No refresh extends the family beyond this. */
    expiresAt: integer('expires_at').notNull(),
    revokedAt: integer('revoked_at'),
    revokedReason: text('revoked_reason'),
  },
  (t) => [
    index('refresh_families_user').on(t.userId),
    index('refresh_families_expiry').on(t.expiresAt),
    index('refresh_families_revoked').on(t.revokedAt).where(sql`revoked_at is not null`),
  ],
)

export const refreshTokens = sqliteTable(
  'refresh_tokens',
  {
    /** SHA-256 of the token, hex; the token itself is never stored. */
    hash: text().primaryKey(),
    familyId: text('family_id')
      .notNull()
      .references(() => refreshFamilies.id, { onDelete: 'cascade' }),
    createdAt: integer('created_at').notNull(),
    expiresAt: integer('expires_at').notNull(),
    usedAt: integer('used_at'),
  },
  (t) => [index('refresh_tokens_family').on(t.familyId)],
)

export const signingKeys = sqliteTable('signing_keys', {
  /** RFC 7638 thumbprint. */
  kid: text().primaryKey(),
  alg: text().notNull(),
  privateJwk: text('private_jwk').notNull(),
  createdAt: integer('created_at').notNull(),
  /** When it starts to sign. It is published from its creation, so that verifiers know it first. */
  signsFrom: integer('signs_from').notNull(),
  /** When it stops being published; null until a newer key replaces it. */
  expiresAt: integer('expires_at'),
})

/** Symmetric keys that the service generates for itself, such as the refresh key. */
export const storeSecrets = sqliteTable('store_secrets', {
  name: text().primaryKey(),
  value: text().notNull(),
  createdAt: integer('created_at').notNull(),
})

export const agents = sqliteTable('agents', {
  /** The agent's name, which is its client_id, LiveKit identity and LiveKit agent_name. Never reused. */
  id: text().primaryKey(),
  /** SHA-256 of the secret, hex. */
  secretHash: text('secret_hash').notNull(),
  /** The same secret encrypted, for the gateway; null if an earlier version issued it. */
  sealedSecret: text('sealed_secret'),
  /** Space-separated, RFC 6749 §3.3. */
  scopes: text().notNull(),
  /** The previous secret, while both are valid. */
  oldSecretHash: text('old_secret_hash'),
  oldSealedSecret: text('old_sealed_secret'),
  oldSecretUntil: integer('old_secret_until'),
  /** Incremented when a secret is replaced at once or the agent is enabled again; older tokens are refused. */
  generation: integer().notNull().default(1),
  createdAt: integer('created_at').notNull(),
  disabledAt: integer('disabled_at'),
  summon: text({ enum: SUMMONERS }).notNull().default('any'),
})

/** Claims to names that users chose. A generated name has none: it belongs to the user of its first session. */
export const rooms = sqliteTable(
  'rooms',
  {
    name: text().primaryKey(),
    ownerId: text('owner_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    claimedAt: integer('claimed_at').notNull(),
    /** When someone who may use it last asked for it, up to an hour too early; the claim lapses 30 days later. */
    usedAt: integer('used_at').notNull(),
  },
  (t) => [index('rooms_used').on(t.usedAt), index('rooms_owner').on(t.ownerId)],
)

export const sessions = sqliteTable(
  'sessions',
  {
    id: text().primaryKey(),
    userId: text('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    /** The refresh family that opened it; no reference, since families are deleted earlier. */
    signInId: text('sign_in_id'),
    room: text().notNull(),
    /** As last observed; each change is also an event `session.status`. */
    status: text({ enum: STATUSES }).notNull(),
    createdAt: integer('created_at').notNull(),
    /** When the last of its join tokens expires; `steady`. */
    tokenExpiresAt: integer('token_expires_at').notNull(),
    endedAt: integer('ended_at'),
    endReason: text('end_reason', { enum: END_REASONS }),
    /** The agent that LiveKit dispatches, and the client's data for it, verbatim. */
    agentName: text('agent_name'),
    agentData: text('agent_data'),
    /** Which deployment of the agent's workers, as LiveKit names them. */
    agentDeployment: text('agent_deployment'),
    /** The presence whose dispatch was confirmed. */
    dispatchedSid: text('dispatched_sid'),
    /** When the dispatch was found or created; without a sid, when an instance claimed it; `steady`. */
    dispatchedAt: integer('dispatched_at'),
    /** The SIP participant that the service created as the user's phone. */
    phoneSid: text('phone_sid'),
    /** When LiveKit was asked to call it, until the sid is known. */
    callingSince: integer('calling_since'),
    /** When LiveKit confirmed that no participant of this ended session is in the room. */
    removedAt: integer('removed_at'),
    lastSeq: integer('last_seq').notNull().default(0),
    eventBytes: integer('event_bytes').notNull().default(0),
    /** Incremented by every change, so that a decision on stale facts is detected. */
    version: integer().notNull().default(0),
  },
  (t) => [
    // One index for a user's unfinished sessions and all others: each index costs a new session a page of its own.
    index('sessions_user').on(t.userId, sql`(ended_at is null)`, t.id),
    index('sessions_unfinished').on(t.id).where(sql`ended_at is null`),
    index('sessions_room').on(t.room, t.endedAt),
    index('sessions_removed').on(t.endedAt).where(sql`removed_at is not null`),
    index('sessions_never_joined').on(t.endedAt).where(sql`removed_at is not null and last_seq = 1`),
    index('sessions_to_remove').on(t.endedAt).where(sql`ended_at is not null and removed_at is null`),
  ],
)

/** What is known of one LiveKit participant sid of a session, in whatever order the facts arrived. */
export const presences = sqliteTable(
  'presences',
  {
    sid: text().notNull(),
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    roomSid: text('room_sid'),
    /** Earliest evidence of a join; null if there is none (the connection was aborted). */
    joinedAt: integer('joined_at'),
    /** Newest evidence of presence in the room, by the service's clock. */
    seenAt: integer('seen_at'),
    /** Start of the newest query that LiveKit answered with "there"; webhooks never set it. */
    confirmedAt: integer('confirmed_at'),
    leftAt: integer('left_at'),
    leftReason: text('left_reason'),
    /** Successful answers in a row that did not list it; the second closes the presence. */
    misses: integer().notNull().default(0),
    missedAt: integer('missed_at'),
  },
  (t) => [primaryKey({ columns: [t.sessionId, t.sid] })],
)

/** Sids of a session's rooms that LiveKit has closed: no participant is in them, whatever arrives later. */
export const finishedRooms = sqliteTable(
  'finished_rooms',
  {
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    roomSid: text('room_sid').notNull(),
    finishedAt: integer('finished_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.sessionId, t.roomSid] })],
)

export const events = sqliteTable(
  'events',
  {
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    seq: integer().notNull(),
    type: text().notNull(),
    data: text().notNull(),
    /** The agent that posted it; null for the service's own events. */
    agentId: text('agent_id'),
    createdAt: integer('created_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.sessionId, t.seq] })],
)

export const idempotencyKeys = sqliteTable(
  'idempotency_keys',
  {
    agentId: text('agent_id').notNull(),
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    key: text().notNull(),
    payloadHash: text('payload_hash').notNull(),
    seq: integer().notNull(),
    createdAt: integer('created_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.sessionId, t.agentId, t.key] }), index('idempotency_keys_age').on(t.createdAt)],
)

/** One row per session, minute and kind of decision. */
export const auditEntries = sqliteTable(
  'audit_entries',
  {
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    /** Whole minutes since the epoch. */
    minute: integer().notNull(),
    agentId: text('agent_id').notNull(),
    route: text().notNull(),
    outcome: text().notNull(),
    count: integer().notNull(),
    firstAt: integer('first_at').notNull(),
    lastAt: integer('last_at').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.sessionId, t.minute, t.agentId, t.route, t.outcome] }),
    index('audit_entries_agent').on(t.agentId, t.minute),
  ],
)

/** Refusals that are about no session: one row per agent, minute and kind. */
export const agentRefusals = sqliteTable(
  'agent_refusals',
  {
    agentId: text('agent_id').notNull(),
    /** Whole minutes since the epoch. */
    minute: integer().notNull(),
    route: text().notNull(),
    outcome: text().notNull(),
    count: integer().notNull(),
    firstAt: integer('first_at').notNull(),
    lastAt: integer('last_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.agentId, t.minute, t.route, t.outcome] }), index('agent_refusals_age').on(t.lastAt)],
)

/** Which worker was given which session's job, as LiveKit said to it through the gateway. */
export const jobs = sqliteTable(
  'jobs',
  {
    id: text().primaryKey(),
    sessionId: text('session_id')
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    agentId: text('agent_id').notNull(),
    workerId: text('worker_id').notNull(),
    assignedAt: integer('assigned_at').notNull(),
    endedAt: integer('ended_at'),
    /** `steady`: decides how long an agent may still wrap up. */
    endedSteady: integer('ended_steady'),
    end: text({ enum: JOB_ENDS }),
  },
  (t) => [index('jobs_session').on(t.sessionId, t.agentId)],
)

export const webhookEvents = sqliteTable(
  'webhook_events',
  {
    id: text().primaryKey(),
    receivedAt: integer('received_at').notNull(),
  },
  (t) => [index('webhook_events_age').on(t.receivedAt)],
)
