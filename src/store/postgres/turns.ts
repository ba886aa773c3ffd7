import { sql } from 'drizzle-orm'
import type { Postgres } from './postgres.ts'
import { turns } from './schema.ts'
import { param, statement } from './statements.ts'

/** Takes the turn if it is due, by the database's clock; returns 0, or the milliseconds until the next one. */
export async function takeTurn(db: Postgres, name: string, everyMs: number): Promise<number> {
  const { isTaken, left } = (await take.get(db, { name, everyMs })) ?? { isTaken: false, left: null }
  return isTaken ? 0 : Math.max(1, left ?? everyMs)
}

/**
 * A turn that is further away than `everyMs` was set while the database's clock was ahead. `clock_timestamp()`, because
 * `now()` may be from before another instance, which this one waited for, set it.
 */
const take = statement<{ isTaken: boolean; left: number | null }>(
  'turn_take',
  sql`with taken as (
      insert into ${turns} as known (name, next_at)
      values (${param('name')}, now() + ${param('everyMs')}::integer * interval '1 ms')
      on conflict (name) do update set next_at = excluded.next_at
      where known.next_at <= now() or known.next_at > clock_timestamp() + ${param('everyMs')}::integer * interval '1 ms'
      returning name)
    select exists (select from taken) as "isTaken",
      (select (extract(epoch from next_at - now()) * 1000)::bigint from ${turns} where name = ${param('name')}) as left`,
)
