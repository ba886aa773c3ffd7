import { type UserClient, userClient } from '#client'
import { page } from './elements.ts'
import { addLine } from './log.ts'
import { wordsForOutcome } from './words.ts'

const POLL_MS = 1500
/** An agent may still try for a while after the call. */
const ROUNDS_AFTER_END = 15
/** These come as events of the session, one by one and with what the agent said. */
const SHOWN_AS_EVENTS = /^POST \/agent\/progress (allowed|replayed)$/

const NO_SECRET = 'this service does not hold the agent’s secret. Only the one that `npm run demo` starts does.'

interface AuditEntry {
  route: string
  outcome: string
  count: number
  firstAt: string
  lastAt: string
}

/** What `npm run demo` answers when it lets its agent call. */
interface Attempt {
  status: number
  code?: string
  detail?: string
}

interface Watched {
  userId: string
  id: string
}

/** Shows what the guard decided: from the session's audit trail, and of calls that the user asks the demo for. */
export function createGuardView(client: UserClient, url: string) {
  // How often each decision is in the list already: the audit trail counts equal ones.
  let shown = new Map<string, number>()
  let last: Promise<unknown> = Promise.resolve()
  /** Another user, who really exists. */
  let stranger: string | undefined

  async function request<T>(path: string, json?: object): Promise<T> {
    const headers = { Authorization: `Bearer ${await client.accessToken()}` }
    const response = await fetch(
      url + path,
      json
        ? { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body: JSON.stringify(json) }
        : { headers },
    )
    if (!response.ok)
      throw new Error(response.status === 404 && json ? NO_SECRET : `${path} answered ${response.status}`)
    return (await response.json()) as T
  }

  async function readAudit(id: string, signal: AbortSignal): Promise<void> {
    const { entries } = await request<{ entries: AuditEntry[] }>(`/sessions/${encodeURIComponent(id)}/audit`)
    if (signal.aborted) return
    const totals = new Map<string, AuditEntry>()
    for (const entry of entries) {
      const key = `${entry.route} ${entry.outcome}`
      const newer = totals.get(key)
      totals.set(key, newer ? { ...newer, count: newer.count + entry.count } : entry)
    }
    for (const [key, { route, outcome, count, lastAt }] of totals) {
      const before = shown.get(key) ?? 0
      if (SHOWN_AS_EVENTS.test(key) || count <= before) continue
      shown.set(key, count)
      addLine({ at: lastAt, ...wordsForOutcome(route, outcome, count - before) })
    }
  }

  /** One after the other, so that a decision is not shown by both. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = last.then(work)
    last = turn.catch(() => undefined)
    return turn
  }

  return {
    /** Until some time after the session's end. */
    async watch(id: string, hasEnded: () => boolean, signal: AbortSignal): Promise<void> {
      shown = new Map()
      for (let rounds = ROUNDS_AFTER_END; rounds > 0 && !signal.aborted; ) {
        if (hasEnded()) rounds--
        // While the service is away the event stream says so.
        await inTurn(() => readAudit(id, signal)).catch(() => undefined)
        await new Promise((resolve) => setTimeout(resolve, POLL_MS))
      }
    },

    /** Lets the demo's agent call once, for this user or with the id of another. */
    attempt: (session: Watched, isForOther: boolean): Promise<void> =>
      inTurn(async () => {
        if (isForOther) stranger ??= (await userClient({ url }).guest()).id
        const userId = isForOther && stranger ? stranger : session.userId
        const { status, code, detail } = await request<Attempt>('/demo/agent-call', { sessionId: session.id, userId })
        // What was accepted comes as an event.
        if (code === undefined) return
        const key = `POST /agent/progress ${code}`
        shown.set(key, (shown.get(key) ?? 0) + 1)
        const text = `${isForOther ? `With another user’s id, …${userId.slice(-4)}` : 'You let it try'}: ${detail}`
        addLine({ at: new Date().toISOString(), text, code, verdict: { accepted: false, text: `${status} refused` } })
        page.log.scrollTop = page.log.scrollHeight
      }),
  }
}
