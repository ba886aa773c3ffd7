import { z } from '@hono/zod-openapi'
import type { SessionEvent } from './event-store.ts'
import { END_REASONS, STATUSES } from './lifecycle.ts'
import type { Session } from './store.ts'

const iso = (at: number) => new Date(at).toISOString()

/** A session as its user and its agents see it. */
export const SessionJson = z
  .object({
    id: z.string(),
    userId: z.string(),
    room: z.string(),
    status: z.enum(STATUSES),
    createdAt: z.iso.datetime(),
    endedAt: z.iso.datetime().optional(),
    endReason: z.enum(END_REASONS).optional(),
  })
  .openapi('Session')

export function sessionJson({ id, userId, room, status, ...session }: Session): z.infer<typeof SessionJson> {
  const ended =
    session.endedAt !== null && session.endReason !== null
      ? { endedAt: iso(session.endedAt), endReason: session.endReason }
      : {}
  return { id, userId, room, status, createdAt: iso(session.createdAt), ...ended }
}

/** An event as its user and its agents see it. */
export const EventJson = z
  .object({
    seq: z.number().int(),
    type: z.string(),
    data: z.unknown(),
    agentId: z.string().optional(),
    createdAt: z.iso.datetime(),
  })
  .openapi('SessionEvent')

export function eventJson({ seq, type, data, agentId, createdAt }: SessionEvent): z.infer<typeof EventJson> {
  return { seq, type, data, ...(agentId === null ? {} : { agentId }), createdAt: iso(createdAt) }
}
