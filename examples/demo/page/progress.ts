import type { SessionEvent } from '#client'
import { page, setText } from './elements.ts'

/** An agent posts what it likes; these are the members that the page knows how to show. */
function told(data: unknown): { percent: number | undefined; message: string } {
  const { percent, message, status } =
    typeof data === 'object' && data !== null ? (data as Record<string, unknown>) : {}
  const words = [message, status].find((value) => typeof value === 'string' && value !== '')
  return {
    percent: typeof percent === 'number' && Number.isFinite(percent) ? Math.min(100, Math.max(0, percent)) : undefined,
    message: typeof words === 'string' ? words : JSON.stringify(data),
  }
}

export function clearProgress(): void {
  page.events.replaceChildren()
  page.log.hidden = true
  page.empty.hidden = false
  page.progress.value = 0
  setText(page.message, 'Nothing yet')
  setText(page.percent, '')
}

/** One line for the event and, if an agent posted it, the bar as it is now. */
export function showEvent(event: SessionEvent): void {
  const { percent, message } = told(event.data)
  const isStatus = event.type === 'session.status'
  addLine(event, isStatus ? `Session: ${message}` : message, percent)
  if (isStatus) return
  setText(page.message, message)
  if (percent === undefined) return
  page.progress.value = percent
  setText(page.percent, `${Math.round(percent)} %`)
}

function addLine({ seq, type, createdAt }: SessionEvent, message: string, percent: number | undefined): void {
  page.empty.hidden = true
  page.log.hidden = false
  // Follows what comes, unless the reader has scrolled back.
  const { scrollHeight, scrollTop, clientHeight } = page.log
  const isFollowing = scrollHeight - scrollTop - clientHeight < 48

  const line = document.createElement('li')
  line.dataset.seq = String(seq)
  line.dataset.type = type
  const time = document.createElement('time')
  time.dateTime = createdAt
  time.textContent = new Date(createdAt).toLocaleTimeString([], { hour12: false })
  const what = document.createElement('span')
  what.className = type === 'session.status' ? 'what of-session' : 'what'
  what.textContent = message
  line.append(time, what)
  if (percent !== undefined) {
    const at = document.createElement('span')
    at.className = 'at'
    at.textContent = `${Math.round(percent)} %`
    line.append(at)
  }
  page.events.append(line)
  if (isFollowing) page.log.scrollTop = page.log.scrollHeight
}
