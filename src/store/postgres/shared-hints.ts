import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { createEventHints, type EventHints } from '../event-hints.ts'
import type { Postgres } from './postgres.ts'

const CHANNEL = 'behalf_events'
/** PostgreSQL takes payloads below 8000 bytes. */
const IDS_PER_NOTICE = 100
/** Milliseconds that appended events wait for others to share their notice. */
const GATHER_MS = 10
/** Milliseconds until a lost connection is opened again, doubled up to the maximum. */
const RETRY_MS = { first: 250, max: 10_000 }

/** Event hints for this process and, by LISTEN and NOTIFY, for the others on the same database. */
interface SharedHints extends Pick<EventHints, 'appended' | 'subscribe'> {
  /** Sends the pending notices, and stops listening. */
  close(): Promise<void>
}

/**
 * A notice is sent after the commit, not in its transaction: PostgreSQL lets only one transaction with a NOTIFY commit at
 * a time, which would end group commit. A lost one delays a stream until its next poll.
 */
export function createSharedHints(db: Postgres): SharedHints {
  const own = createEventHints()
  const origin = randomUUID()
  let waiting = new Set<string>()
  let sending: Promise<void> | undefined
  let listener: pg.Client | undefined
  let listening: Promise<void> | undefined
  const closing = new AbortController()
  const { signal } = closing

  async function send(): Promise<void> {
    while (waiting.size > 0) {
      await delay(GATHER_MS, undefined, { ref: false, signal }).catch(() => {})
      const ids = [...waiting]
      waiting = new Set()
      for (let i = 0; i < ids.length; i += IDS_PER_NOTICE) {
        const payload = [origin, ...ids.slice(i, i + IDS_PER_NOTICE)].join(' ')
        await db
          .query({ name: 'notify', text: `select pg_notify('${CHANNEL}', $1)`, values: [payload] })
          .catch(() => {})
      }
    }
    sending = undefined
  }

  function hear(sessionIds: readonly string[]): void {
    for (const id of sessionIds) own.appended(id)
    own.notify()
  }

  /** Resolves when the connection is lost. */
  async function listenOnce(): Promise<void> {
    const client = await db.connect()
    listener = client
    const ended = new Promise<void>((resolve) => client.once('end', resolve))
    client.on('notification', ({ payload = '' }) => {
      const [from, ...sessionIds] = payload.split(' ')
      if (from !== origin) hear(sessionIds)
    })
    if (signal.aborted) await client.end()
    else await client.query(`listen ${CHANNEL}`).catch(() => client.end())
    await ended
  }

  async function listen(): Promise<void> {
    for (let wait = RETRY_MS.first; !signal.aborted; wait = Math.min(2 * wait, RETRY_MS.max)) {
      const startedAt = performance.now()
      await listenOnce().catch(() => {})
      if (performance.now() - startedAt > RETRY_MS.max) wait = RETRY_MS.first
      await delay(wait, undefined, { ref: false, signal }).catch(() => {})
    }
  }

  return {
    appended(sessionId) {
      hear([sessionId])
      waiting.add(sessionId)
      sending ??= send()
    },
    subscribe(sessionId, onAppended) {
      listening ??= listen()
      return own.subscribe(sessionId, onAppended)
    },
    async close() {
      closing.abort()
      await sending
      await listener?.end().catch(() => {})
      await listening
    },
  }
}
