// The rows of a store, written directly: a past of ended sessions, and new users and sessions for each run. The service
// may run meanwhile, since SQLite lets another process write beside it, as the commands do.
import { createHash, randomBytes } from 'node:crypto'
import Database from 'better-sqlite3'
import type { AccessTokens } from '../src/auth/tokens.ts'
import { built } from './built.ts'

const AGENT = 'bench'
export const PUBLIC_URL = 'https://api.bench.test'

const DAY_MS = 24 * 60 * 60 * 1000
/** Younger than everything that the service prunes. */
const PAST_MS = 20 * DAY_MS
const SESSIONS_PER_USER = 20

export interface User {
  userId: string
  signInId: string
  refreshToken: string
}

export interface Pair extends User {
  sessionId: string
  room: string
  sid: string
}

/** `pending` sessions were never joined; `fresh` and `stale` are live ones that LiveKit confirmed now or long ago. */
export type Evidence = 'pending' | 'fresh' | 'stale'

export interface World {
  newUsers(count: number): User[]
  newPairs(count: number, evidence: Evidence): Pair[]
  /** Ends all unfinished sessions, so that the next run begins without them. */
  endAll(): void
  tokens: AccessTokens
  agentToken(): Promise<string>
}

/** Creates a store with that many ended sessions, each with its presence, events and audit entry. */
export async function createPast(path: string, sessions: number): Promise<void> {
  const { openStore } = await built.store()
  const { loadSigningKeys } = await built.keys()
  const store = await openStore(`file:${path}`)
  await loadSigningKeys(store.keys, store.clock)
  await store.close()

  const db = new Database(path)
  db.pragma('synchronous = OFF')
  const now = Date.now()
  const users = Math.max(1, Math.floor(sessions / SESSIONS_PER_USER))
  const ending = (at: string) => `printf('%012x', ${at}) || lower(hex(randomblob(16)))`
  const numbers = (count: number) =>
    `with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < ${count})`
  const live = '{"status":"live"}'
  const said = '{"text":"I found three tables for two at eight."}'
  const left = '{"status":"ended","reason":"left"}'
  db.exec(`
    begin;
    create temp table person (i integer primary key, e text, at integer);
    ${numbers(users)} insert into person select i, ${ending(String(now - PAST_MS))}, ${now - PAST_MS} from n;
    create temp table past (i integer primary key, e text, at integer, person text);
    ${numbers(sessions)}
      insert into past select n.i, ${ending('n.at')}, n.at, person.e
      from (select i, ${now - PAST_MS} + cast(i * ${(PAST_MS - DAY_MS) / sessions} as integer) as at from n) as n
      join person on person.i = n.i % ${users};
    insert into agents (id, secret_hash, scopes, generation, created_at, summon)
      values ('${AGENT}', '${'0'.repeat(64)}', 'progress:write context:read session:end', 1, ${now - PAST_MS}, 'any');
    insert into users (id, email, password_hash, created_at, seen_at)
      select 'user_' || e, 'person' || i || '@bench.test', '$argon2id$bench', at, ${now} from person;
    insert into refresh_families (id, user_id, created_at, expires_at)
      select 'fam_' || e, 'user_' || e, at, ${now + 60 * DAY_MS} from person;
    insert into refresh_tokens (hash, family_id, created_at, expires_at)
      select lower(hex(randomblob(32))), 'fam_' || e, at, ${now + 20 * DAY_MS} from person;
    insert into sessions (id, user_id, sign_in_id, room, status, created_at, token_expires_at, ended_at, end_reason,
        agent_name, dispatched_sid, dispatched_at, removed_at, last_seq, event_bytes, version)
      select 'sess_' || e, 'user_' || person, 'fam_' || person, 'room_' || e, 'ended', at, at + 900000, at + 600000, 'left',
        '${AGENT}', 'PA_' || substr(e, -12), at + 1000, at + 600000, 3, ${live.length + said.length + left.length}, 5 from past;
    insert into presences (sid, session_id, room_sid, joined_at, seen_at, confirmed_at, left_at, left_reason)
      select 'PA_' || substr(e, -12), 'sess_' || e, 'RM_' || substr(e, -12), at + 500, at + 540000, at + 530000, at + 540000,
        'CLIENT_INITIATED' from past;
    insert into events (session_id, seq, type, data, agent_id, created_at)
      select 'sess_' || e, 1, 'session.status', '${live}', null, at + 500 from past
      union all select 'sess_' || e, 2, 'progress', '${said}', '${AGENT}', at + 9000 from past
      union all select 'sess_' || e, 3, 'session.status', '${left}', null, at + 600000 from past;
    insert into audit_entries (session_id, minute, agent_id, route, outcome, count, first_at, last_at)
      select 'sess_' || e, (at + 9000) / 60000, '${AGENT}', 'POST /agent/progress', 'allowed', 1, at + 9000, at + 9000 from past;
    insert into webhook_events (id, received_at)
      select 'EV_' || substr(e, -20), ${now - DAY_MS} + i % 3600000 from past where i % 2 = 0;
    commit;
  `)
  db.pragma('wal_checkpoint(TRUNCATE)')
  db.close()
}

/** Writes users and sessions into the store of a running service, and issues its tokens. */
export async function openWorld(path: string): Promise<World> {
  const { openStore } = await built.store()
  const { readSigningKeys } = await built.keys()
  const { createAccessTokens } = await built.tokens()
  const { keys: keyStore, users, clock } = await openStore(`file:${path}`, { keepsTime: false })
  const tokens = createAccessTokens({
    keys: await readSigningKeys(keyStore, clock),
    users,
    publicUrl: PUBLIC_URL,
    clock,
  })
  const db = new Database(path, { timeout: 10_000 })
  const insertUser = db.prepare(`insert into users (id, created_at, seen_at) values (@userId, @now, @now)`)
  const insertFamily = db.prepare(
    `insert into refresh_families (id, user_id, created_at, expires_at) values (@signInId, @userId, @now, @now + ${90 * DAY_MS})`,
  )
  const insertToken = db.prepare(
    `insert into refresh_tokens (hash, family_id, created_at, expires_at) values (@hash, @signInId, @now, @now + ${30 * DAY_MS})`,
  )
  const insertSession = db.prepare(
    `insert into sessions (id, user_id, sign_in_id, room, status, created_at, token_expires_at, agent_name, dispatched_sid,
       dispatched_at, last_seq, event_bytes)
     values (@sessionId, @userId, @signInId, @room, @status, @now, @now + 900000, @agent, @dispatchedSid, @now, 0, 0)`,
  )
  const insertPresence = db.prepare(
    `insert into presences (sid, session_id, room_sid, joined_at, seen_at, confirmed_at)
     values (@sid, @sessionId, 'RM_' || substr(@sid, 4), @at, @at, @at)`,
  )
  const end = db.prepare(
    `update sessions set status = 'ended', ended_at = @now, end_reason = 'left', removed_at = @now, version = version + 1
     where ended_at is null`,
  )

  /** In one transaction, and into the database file itself: a run must not begin with our checkpoint. */
  function written<T>(work: (now: number) => T): T {
    const result = db.transaction(() => work(Date.now()))()
    db.pragma('wal_checkpoint(TRUNCATE)')
    return result
  }

  function insertNewUser(now: number): User & { ending: string } {
    const ending = now.toString(16).padStart(12, '0') + randomBytes(16).toString('hex')
    const refreshToken = randomBytes(32).toString('base64url')
    const user = { userId: `user_${ending}`, signInId: `fam_${ending}`, refreshToken, ending }
    insertUser.run({ ...user, now })
    insertFamily.run({ ...user, now })
    insertToken.run({ ...user, hash: createHash('sha256').update(refreshToken).digest('hex'), now })
    return user
  }

  function insertNewPair(now: number, evidence: Evidence): Pair {
    const { ending, ...user } = insertNewUser(now)
    const pair = {
      ...user,
      sessionId: `sess_${ending}`,
      room: `room_${ending.slice(-32)}`,
      sid: `PA_${ending.slice(-12)}`,
    }
    const isPending = evidence === 'pending'
    insertSession.run({
      ...pair,
      now,
      status: isPending ? 'pending' : 'live',
      agent: isPending ? null : AGENT,
      dispatchedSid: isPending ? null : pair.sid,
    })
    if (!isPending) insertPresence.run({ ...pair, at: evidence === 'fresh' ? now : now - 120_000 })
    return pair
  }

  return {
    newUsers: (count) => written((now) => Array.from({ length: count }, () => insertNewUser(now))),
    newPairs: (count, evidence) => written((now) => Array.from({ length: count }, () => insertNewPair(now, evidence))),
    endAll: () => written((now) => void end.run({ now })),
    tokens,
    agentToken: () =>
      tokens.issueAgentToken({
        agentId: AGENT,
        scopes: ['progress:write', 'context:read', 'session:end'],
        generation: 1,
      }),
  }
}
