import { REFRESH_IDLE_MS } from '../auth/refresh.ts'
import type { Clock } from '../clock.ts'
import type { Config } from '../config.ts'
import type { StoredKey } from '../store/keys.ts'
import { RECENT_USE_MS } from '../store/rooms.ts'
import type { Store } from '../store/store.ts'
import { RECENTLY_SEEN_MS } from '../store/users.ts'

interface PruneDeps {
  store: Pick<Store, 'users' | 'keys' | 'rooms' | 'sessions'>
  config: Pick<Config, 'eventRetentionDays'>
  clock: Clock
}

const DAY_MS = 24 * 60 * 60 * 1000
/** A webhook's signature expires after 5 minutes: two days' ids stop replays even if the clock is set back by a day. */
const WEBHOOK_DAYS = 2
const IDEMPOTENCY_DAYS = 1
/** A session that was never joined has no history to keep. */
const UNUSED_SESSION_DAYS = 1
/** A room's name stays its owner's this long after it was last used. */
const ROOM_CLAIM_DAYS = 30
/** How long the command line can still recognise a token signed by an expired key. */
const DEAD_KEY_DAYS = 1
/** A revoked family is kept this long, so that operators can see why it was revoked. */
const REVOKED_FAMILY_DAYS = 1
/** Rows per write, so that no write delays the others for long. */
const BATCH = 500

/** Deletes rows past their retention, in small batches. */
export function createPruner({ store, config, clock }: PruneDeps): () => Promise<void> {
  const { users, keys, rooms, sessions } = store

  async function untilDone(prune: () => Promise<number>): Promise<void> {
    while ((await prune()) >= BATCH);
  }
  return async function prune() {
    const steady = clock.steady()
    // Both clocks must agree that it is old: a wall clock that jumps ahead deletes nothing.
    const at = Math.min(clock.now(), steady)
    const ago = (days: number) => at - days * DAY_MS
    // After this long without a sign-in or refresh, none of a guest's tokens is still valid.
    await untilDone(() => users.pruneGuests(at - REFRESH_IDLE_MS - RECENTLY_SEEN_MS, BATCH))
    const dead = { expiredBefore: at, revokedBefore: ago(REVOKED_FAMILY_DAYS) }
    await untilDone(() => users.pruneFamilies(dead, BATCH))
    const isKept = (key: StoredKey) => key.expiresAt === null || key.expiresAt > ago(DEAD_KEY_DAYS)
    await keys.changeSigningKeys((all) => all.filter(isKept))
    const old = {
      ended: ago(config.eventRetentionDays),
      unused: ago(UNUSED_SESSION_DAYS),
      webhooks: ago(WEBHOOK_DAYS),
      keys: steady - IDEMPOTENCY_DAYS * DAY_MS,
    }
    await untilDone(() => sessions.prune(old, BATCH))
    await untilDone(() => rooms.prune(ago(ROOM_CLAIM_DAYS) - RECENT_USE_MS, BATCH))
  }
}
