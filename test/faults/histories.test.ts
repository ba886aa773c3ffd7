import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { onPostgres } from '../database.ts'
import { directSessions } from '../direct-sessions.ts'
import { history, SESSIONS } from './history.ts'
import { restartable } from './restartable.ts'
import { runHistory } from './run-history.ts'
import { report, SEED, sized } from './size.ts'

// The service's own pauses (before it asks LiveKit again, before it removes again) pass at once: a history takes as long
// as its work, and its time is the injected clock's.
vi.mock('node:timers/promises', () => ({ setTimeout: () => new Promise((resolve) => setImmediate(resolve)) }))

/** On PostgreSQL each takes several times as long, and the rules are the same. */
const HISTORIES = sized(onPostgres() ? 300 : 1_000, 10_000)

test(`${HISTORIES} random histories end in LiveKit's state, and no callback is accepted beyond the bound`, async () => {
  const service = await restartable()
  const started = performance.now()
  let played = 0
  await fc.assert(
    fc.asyncProperty(history, async (one) => {
      played++
      service.sfu.mode = 'ok'
      await runHistory(service, one)
      // The next history begins with empty rooms.
      const { store } = service.app()
      const sessions = directSessions(store)
      for (const session of await store.sessions.listUnfinished()) {
        await sessions.end(session.id, 'user')
        await sessions.removal.markRemoved(session, true)
      }
      service.sfu.rooms.clear()
    }),
    { numRuns: HISTORIES, seed: SEED },
  )
  const seconds = (performance.now() - started) / 1000
  const perSecond = Math.round(played / seconds)
  report('histories', { seed: SEED, played, sessions: SESSIONS.length, seconds: seconds.toFixed(1), perSecond })
  expect(played).toBe(HISTORIES)
  await service.close()
})
