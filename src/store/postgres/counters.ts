import { hash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import type { Counters } from '../../http/counters.ts'
import { createSingleFlight } from '../../single-flight.ts'
import type { Postgres } from './postgres.ts'
import { deleteSome } from './retention.ts'
import { rateWindows } from './schema.ts'
import { param, statement } from './statements.ts'

/** An instance takes a hundredth of a quota at a time, so that only small quotas cost each request a round trip. */
const BLOCKS = 100
/** Keys for which a counter holds blocks at most. A block that it drops stays counted as used. */
const MAX_HELD = 10_000
/** After this many round trips, up to twice as many ended windows are deleted. */
const PRUNE_EVERY = 100

/** A part of a key's quota, already counted in the database, that this instance may use within the window. */
interface Block {
  left: number
  /** What is left of the quota in the database. */
  beyond: number
  /** By `performance.now`. */
  endsAt: number
}

/**
 * Counters that all instances share, in fixed windows by the database's clock. Together they never admit more than the
 * quota per window; what an instance has not used of its block the others may not use. A crash of PostgreSQL forgets them.
 */
export function postgresCounters(db: Postgres): Counters {
  let roundTrips = 0

  function pruneSometimes(): void {
    roundTrips += 1
    if (roundTrips % PRUNE_EVERY === 0) {
      deleteSome(db, rateWindows, sql`ends_at < now()`, 2 * PRUNE_EVERY).catch(() => {})
    }
  }

  return (quota) => {
    const size = Math.max(1, Math.floor(quota.count / BLOCKS))
    const held = new Map<string, Block>()
    const once = createSingleFlight<Block>()
    // Hashed, so that a long key from a client takes no more room than another, and no address is stored.
    const idOf = (key: string) => hash('sha256', `${quota.name} ${key}`, 'base64url')

    async function add(id: string, by: number): Promise<Block> {
      pruneSometimes()
      const startedAt = performance.now()
      const values = { id, by, most: quota.count + size, seconds: quota.windowSeconds }
      const { count, milliseconds } = (await change.get(db, values)) ?? { count: 0, milliseconds: 0 }
      return {
        left: Math.max(0, Math.min(size, quota.count + size - count)),
        beyond: Math.max(0, quota.count - count),
        endsAt: startedAt + milliseconds,
      }
    }

    async function hold(id: string): Promise<Block> {
      const block = await add(id, size)
      if (held.size >= MAX_HELD) held.clear()
      held.set(id, block)
      return block
    }

    const isUsable = (block: Block | undefined): block is Block =>
      block !== undefined && block.endsAt > performance.now() && (block.left > 0 || block.beyond === 0)

    return {
      quota,
      async count(key) {
        const id = idOf(key)
        // Nothing is awaited between `isUsable` and taking one: simultaneous calls would all see the same block.
        let block = size === 1 ? await add(id, 1) : held.get(id)
        while (size > 1 && !isUsable(block)) block = await once(id, () => hold(id))
        const { left = 0, beyond = 0, endsAt = 0 } = block ?? {}
        if (block && left > 0) block.left -= 1
        return {
          allowed: left > 0,
          remaining: Math.max(0, left - 1) + beyond,
          resetSeconds: Math.max(1, Math.ceil((endsAt - performance.now()) / 1000)),
        }
      },
      isCounted: async (key) => (await counted.get(db, { id: idOf(key) })) !== undefined,
      giveBack: async (key) => void (await add(idOf(key), -1)),
      reset: async (key) => void (await add(idOf(key), -quota.count - size)),
    }
  }
}

const length = sql`${param('seconds')}::integer * interval '1 s'`
/**
 * A window that ends later than a new one would was opened while the database's clock was ahead. `clock_timestamp()`,
 * because `now()` may be from before another instance, which this one waited for, opened the window.
 */
const isOpen = sql`known.ends_at > now() and known.ends_at <= clock_timestamp() + ${length}`
const change = statement<{ count: number; milliseconds: number }>(
  'rate_window_change',
  sql`insert into ${rateWindows} as known (id, count, ends_at)
    values (${param('id')}, greatest(0, ${param('by')}::integer), now() + ${length})
    on conflict (id) do update set
      count = case when ${isOpen} then greatest(0, least(known.count + ${param('by')}::integer, ${param('most')}::integer))
        else excluded.count end,
      ends_at = case when ${isOpen} then known.ends_at else excluded.ends_at end
    returning count, (extract(epoch from ends_at - now()) * 1000)::bigint as milliseconds`,
)
const counted = statement(
  'rate_window_counted',
  sql`select from ${rateWindows} where id = ${param('id')} and ends_at > now() and count > 0`,
)
