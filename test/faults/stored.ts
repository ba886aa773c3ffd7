import { expect } from 'vitest'
import { isPostgres } from '../../src/store/store.ts'
import { inspect } from '../database.ts'
import type { Acknowledged } from './load.ts'

/** Looks into the service's own database beside it: everything acknowledged is there, whole, and nothing is there twice. */
export async function expectStored(
  databaseUrl: string,
  { rotations, webhooks, progress }: Acknowledged,
): Promise<void> {
  const { rows, close } = await inspect(databaseUrl)
  try {
    if (!isPostgres(databaseUrl)) {
      expect(await rows('pragma integrity_check')).toEqual([{ integrity_check: 'ok' }])
      expect(await rows('pragma foreign_key_check')).toEqual([])
    }
    const tokens = await rows<{ hash: string; used_at: number | null }>('select hash, used_at from refresh_tokens')
    const usedAt = new Map(tokens.map(({ hash, used_at }) => [hash, used_at]))
    for (const { parent, child } of rotations) {
      expect(usedAt.get(parent), 'the parent of an acknowledged rotation').toEqual(expect.any(Number))
      expect(usedAt.has(child), 'the child of an acknowledged rotation').toBe(true)
    }
    const received = new Set((await rows<{ id: string }>('select id from webhook_events')).map(({ id }) => id))
    expect(
      webhooks.filter((id) => !received.has(id)),
      'lost webhooks',
    ).toEqual([])
    const keys = await rows<{ session: string; key: string; seq: number }>(
      `select k.session_id as session, k.key, e.seq from idempotency_keys k
       join events e on e.session_id = k.session_id and e.seq = k.seq`,
    )
    const seqOf = new Map(keys.map(({ session, key, seq }) => [`${session} ${key}`, seq]))
    for (const { sessionId, key, seq } of progress) expect(seqOf.get(`${sessionId} ${key}`), key).toBe(seq)
    expect(await rows(TWO_LEAVES), 'families with two living leaves').toEqual([])
    expect(await rows(EVENTS_WITHOUT_KEY), 'an event without its key, or the other way round').toEqual([])
    expect(await rows(GAPS), 'sessions whose seq has a gap').toEqual([])
  } finally {
    await close()
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
