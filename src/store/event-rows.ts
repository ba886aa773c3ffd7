import type { SessionEvent } from './sessions.ts'

/** An event as it is stored. */
export interface EventRow extends Omit<SessionEvent, 'data'> {
  /** JSON. */
  data: string
}

export const toEvent = (row: EventRow): SessionEvent => ({ ...row, data: JSON.parse(row.data) })

/** An event may be 64 KiB, so the number of events alone does not bound a page. */
export const MAX_PAGE_BYTES = 256 * 1024
