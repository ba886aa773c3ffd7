import Database from 'better-sqlite3'
import { expect } from 'vitest'
import type { Acknowledged } from './load.ts'

/** Looks into the service's own file beside it: everything acknowledged is there, whole, and nothing is there twice. */
export function expectStored(databaseUrl: string, { rotations, webhooks, progress }: Acknowledged): void {
  const db = new Database(databaseUrl.slice('file:'.length), { readonly: true })
  try {
    expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
    expect(db.pragma('foreign_key_check')).toEqual([])
    const token = db.prepare<[string], { used_at: number | null }>('select used_at from refresh_tokens where hash = ?')
    for (const { parent, child } of rotations) {
      expect(token.get(parent)?.used_at, 'the parent of an acknowledged rotation').toEqual(expect.any(Number))
      expect(token.get(child), 'the child of an acknowledged rotation').toBeDefined()
    }
    const webhook = db.prepare('select 1 from webhook_events where id = ?')
    expect(
      webhooks.filter((id) => webhook.get(id) === undefined),
      'lost webhooks',
    ).toEqual([])
    const event = db.prepare<[string, string], { seq: number }>(
      `select e.seq from idempotency_keys k join events e on e.session_id = k.session_id and e.seq = k.seq
       where k.session_id = ? and k.key = ?`,
    )
    for (const { sessionId, key, seq } of progress) expect(event.get(sessionId, key)?.seq, key).toBe(seq)
    expect(db.prepare(TWO_LEAVES).all(), 'families with two living leaves').toEqual([])
    expect(db.prepare(EVENTS_WITHOUT_KEY).all(), 'an event without its key, or the other way round').toEqual([])
    expect(db.prepare(GAPS).all(), 'sessions whose seq has a gap').toEqual([])
  } finally {
    db.close()
  }
}

const TWO_LEAVES = `select family_id from refresh_tokens t join refresh_families f on f.id = t.family_id
  where t.used_at is null and f.revoked_at is null group by family_id having count(*) <> 1`
const EVENTS_WITHOUT_KEY = `select e.session_id, e.seq from events e
  left join idempotency_keys k on k.session_id = e.session_id and k.seq = e.seq
  where e.type = 'progress' and k.key is null
  union select k.session_id, k.seq from idempotency_keys k
  left join events e on e.session_id = k.session_id and e.seq = k.seq where e.seq is null`
const GAPS = `select s.id, s.last_seq, count(e.seq) from sessions s left join events e on e.session_id = s.id
  group by s.id having count(e.seq) <> s.last_seq`
