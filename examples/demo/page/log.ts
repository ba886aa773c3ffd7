import type { SessionEvent } from '#client'
import { page } from './elements.ts'
import { wordsForStatus } from './words.ts'

// The list of what happened in a session: its own status, and every callback with the server's verdict.

export interface Line {
  /** ISO 8601, UTC. */
  at: string
  text: string
  /** Of the refusal. */
  code?: string | undefined
  /** Absent for what the server itself did. */
  verdict?: { accepted: boolean; text: string }
  seq?: number
  type?: string
}

/** An agent posts what it likes; these are the members that the page knows how to show. */
function message(data: unknown): string {
  const { message, status } = typeof data === 'object' && data !== null ? (data as Record<string, unknown>) : {}
  const words = [message, status].find((value) => typeof value === 'string' && value !== '')
  return typeof words === 'string' ? words : JSON.stringify(data)
}

export function clearLog(): void {
  page.events.replaceChildren()
  page.log.hidden = true
  page.empty.hidden = false
}

export function showEvent({ seq, type, createdAt: at, data }: SessionEvent): void {
  addLine(
    type === 'session.status'
      ? { at, seq, type, text: wordsForStatus(data) }
      : { at, seq, type, text: message(data), verdict: { accepted: true, text: '201 accepted' } },
  )
}

/** In its place by time: events and verdicts come from two sources. */
export function addLine({ at, text, code, verdict, seq, type }: Line): void {
  page.empty.hidden = true
  page.log.hidden = false
  // Follows what comes, unless the reader has scrolled back.
  const { scrollHeight, scrollTop, clientHeight } = page.log
  const isFollowing = scrollHeight - scrollTop - clientHeight < 48

  const line = document.createElement('li')
  line.dataset.at = at
  if (seq !== undefined) line.dataset.seq = String(seq)
  if (type !== undefined) line.dataset.type = type
  const time = document.createElement('time')
  time.dateTime = at
  time.textContent = new Date(at).toLocaleTimeString([], { hour12: false })
  const what = element('div', verdict ? 'what' : 'what of-session', text)
  if (code !== undefined) what.append(element('span', 'code', code))
  line.append(time, what)
  if (verdict) line.append(element('span', `verdict ${verdict.accepted ? 'accepted' : 'refused'}`, verdict.text))

  const lines = [...page.events.children] as HTMLElement[]
  const before = lines.findLast((other) => (other.dataset.at ?? '') <= at)
  if (before) before.after(line)
  else page.events.prepend(line)
  if (isFollowing) page.log.scrollTop = page.log.scrollHeight
}

function element(name: 'div' | 'span', className: string, text: string): HTMLElement {
  const made = document.createElement(name)
  made.className = className
  made.textContent = text
  return made
}
