import { requestId } from 'hono/request-id'
import pLimit from 'p-limit'
import { pino } from 'pino'
import { expect } from 'vitest'
import type { UserEnv } from '../src/auth/guards.ts'
import { createAccessTokens } from '../src/auth/tokens.ts'
import { renderProblem } from '../src/http/problem.ts'
import { createReadLimit } from '../src/http/reads.ts'
import { createRouter } from '../src/http/router.ts'
import { createEventStreams, STREAM_TIMING, type StreamTiming } from '../src/sessions/event-stream.ts'
import { sessionRoutes } from '../src/sessions/routes.ts'
import type { EventStore } from '../src/store/sessions.ts'
import { reportDirectly } from './direct-sessions.ts'
import { callingScene } from './scene.ts'
import { listening, openStream } from './stream-client.ts'

const log = pino({ level: 'silent' })

/**
 * A live session behind the session routes alone, with a timing of the test's own, on a store that counts reads and
 * listeners and of which parts can be replaced.
 */
export async function timedCall(
  timing: Partial<StreamTiming> = {},
  store: Partial<Pick<EventStore, 'page' | 'subscribe'>> = {},
) {
  const c = await callingScene()
  const { s, pair } = c
  const { sessions, events, users } = s.store
  const counts = { pages: 0, listeners: 0 }
  const counted: EventStore = {
    ...events,
    ...store,
    page(...args) {
      counts.pages++
      return (store.page ?? events.page)(...args)
    },
    subscribe(...args) {
      counts.listeners++
      const unsubscribe = (store.subscribe ?? events.subscribe)(...args)
      return () => {
        counts.listeners--
        unsubscribe()
      }
    },
  }
  const { clock } = s.store
  const streams = createEventStreams(
    { events: counted, sessions, users, wrapUpMs: s.config.wrapUpSeconds * 1000, log, clock },
    { ...STREAM_TIMING, ...timing },
  )
  const tokens = createAccessTokens({ keys: s.keys, users, publicUrl: s.config.publicUrl, clock })
  const router = createRouter()
  router.onError((error, context) => renderProblem(error, context, log))
  router.use(requestId())
  const limitReads = createReadLimit<UserEnv>(undefined, (context) => context.var.user.userId)
  const routes = router.route(
    '/',
    sessionRoutes({ tokens, limitReads, sessions: s.sessions, store: { ...s.store, events: counted }, streams }),
  )
  const server = await listening(routes.fetch)
  const url = `${server}/sessions/${pair.sessionId}/events`
  // The guard finds the user in the room, so that the session is live.
  expect((await c.report()).status).toBe(201)
  return {
    ...c,
    server,
    url,
    counts,
    streams,
    bearer: c.user.bearer,
    open: () => openStream(url, c.user),
    report(count: number, size = 0) {
      const filling = 'x'.repeat(size)
      // On PostgreSQL none may wait for more than five seconds for those before it.
      const some = pLimit(50)
      return Promise.all(
        Array.from({ length: count }, (_, step) => some(() => reportDirectly(s, pair.sessionId, { step, filling }))),
      )
    },
  }
}
