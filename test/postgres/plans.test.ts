import { expect, test } from 'vitest'
import { execute, newDatabase, withClient } from '../database.ts'
import { scene } from '../scene.ts'
import { postWebhook, webhookEvent } from '../sfu.ts'
import { post } from '../support.ts'

/** Few enough for PostgreSQL to read a table whole, if it expects many rows to be asked for. */
const ROWS = 1000

const PAST = `
  create temp view n as select lpad(i::text, 8, '0') as i from generate_series(1, ${ROWS}) as i;
  insert into users (id, created_at, seen_at) select 'user_' || i, 1, 1 from n;
  insert into refresh_families (id, user_id, created_at, expires_at) select 'fam_' || i, 'user_' || i, 1, 2 from n;
  insert into refresh_tokens (hash, family_id, created_at, expires_at) select i, 'fam_' || i, 1, 2 from n;
  insert into sessions (id, user_id, room, status, created_at, token_expires_at, ended_at, end_reason, removed_at)
    select 'sess_' || i, 'user_' || i, 'room_' || i, 'ended', 1, 1, 1, 'left', 1 from n;
  insert into presences (session_id, sid) select 'sess_' || i, 'PA_' || i from n;
  insert into events (session_id, seq, type, data, created_at) select 'sess_' || i, 1, 'progress', '{}', 1 from n;
  insert into rooms (name, owner_id, claimed_at, used_at) select 'lesson ' || i, 'user_' || i, 1, 1 from n;
  insert into webhook_events (id, received_at) select i, 1 from n;
  analyze`

const FILLED = [
  'users',
  'rooms',
  'refresh_families',
  'refresh_tokens',
  'sessions',
  'presences',
  'events',
  'webhook_events',
]

/** PostgreSQL chooses the plan that it keeps at a statement's sixth use. */
const USES = 8

test('what is done again and again reads no table whole', async () => {
  const url = await newDatabase()
  const s = await scene({ databaseUrl: url })
  await execute(url, PAST)
  const scans = () =>
    withClient(url, async (client) => {
      const { rows } = await client.query('select relname as table, seq_scan, idx_scan from pg_stat_user_tables')
      return rows.filter(({ table }) => FILLED.includes(table))
    })
  const before = await scans()
  const agent = await s.newAgent()
  for (let i = 0; i < USES; i++) {
    const { user, pair, leg } = await s.present({ room: `room ${i}` })
    expect((await postWebhook(s, webhookEvent('participant_joined', leg))).status).toBe(200)
    expect((await s.progress(agent.bearer, pair, { 'Idempotency-Key': 'first' })).status).toBe(201)
    expect((await s.get(`/sessions/${pair.sessionId}`, user.bearer)).status).toBe(200)
    expect(await s.eventsOf(user, pair)).toHaveLength(2)
    expect((await post(s.app, '/auth/refresh', { refresh_token: user.refreshToken })).status).toBe(200)
    await s.reconcile()
    expect((await s.end(agent.bearer, pair)).status).toBe(200)
  }
  // A connection adds what it did to the statistics as it ends.
  await s.store.close()
  const after = await scans()
  expect(after.map(({ table, seq_scan }) => [table, seq_scan])).toEqual(
    before.map(({ table, seq_scan }) => [table, seq_scan]),
  )
  const [used] = after.filter(({ table }) => table === 'sessions')
  expect(Number(used.idx_scan)).toBeGreaterThan(USES)
})
