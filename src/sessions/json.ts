import { z } from '@hono/zod-openapi'
import type { AuditEntry } from '../store/audit.ts'
import { END_REASONS, type Session, type SessionEvent, STATUSES } from '../store/sessions.ts'

const iso = (at: number) => new Date(at).toISOString()

/** A session as its user and agents see it. */
export const SessionResponse = z
  .object({
    id: z.string().describe('`sess_…`'),
    userId: z.string().describe('The user that it belongs to.'),
    room: z.string().describe('Name of its LiveKit room.'),
    status: z
      .enum(STATUSES)
      .describe(
        [
          'As last observed: `pending` before the user first joins, `live` while it is in the room, `disconnected` while it',
          'may come back, `ended` for good.',
        ].join(' '),
      ),
    createdAt: z.iso.datetime().describe('UTC, when its first join token was minted.'),
    endedAt: z.iso.datetime().optional().describe('UTC. Absent until it has ended.'),
    endReason: z
      .enum(END_REASONS)
      .optional()
      .describe(
        [
          'Absent until it has ended. `user` or `agent` ended it by a call; `limit`: it lasted for `MAX_SESSION_MINUTES`, or was beyond `MAX_SESSIONS_PER_USER`;',
          '`superseded`: its user never joined it, and newer ones took its place; `never_joined`: its join token expired unused;',
          '`left`: the user was away for `RECONNECT_SECONDS`; `signed_out`: the sign-in that opened it has ended.',
        ].join(' '),
      ),
  })
  .openapi('Session', { description: 'One user in one room, from the first join token to the end.' })

export function sessionResponse({ id, userId, room, status, ...session }: Session): z.infer<typeof SessionResponse> {
  const ended =
    session.endedAt !== null && session.endReason !== null
      ? { endedAt: iso(session.endedAt), endReason: session.endReason }
      : {}
  return { id, userId, room, status, createdAt: iso(session.createdAt), ...ended }
}

/** An event as the session's user and agents see it. */
export const EventResponse = z
  .object({
    seq: z.number().int().describe('Counts the events of the session, from 1.'),
    type: z.string().describe('`session.…` and `agent.…` come from the service, any other type from an agent.'),
    data: z
      .unknown()
      .describe(
        'What the agent sent; for `session.status`, `{status, reason?, agentId?, detail?, result?}`; for `agent.joined` and `agent.lost`, `{agentId, jobId, reason?}`; for `session.call`, `{to}`.',
      ),
    agentId: z
      .string()
      .optional()
      .describe('The agent that sent it, or that called the user. Absent for the service’s other events.'),
    createdAt: z.iso.datetime().describe('UTC.'),
  })
  .openapi('SessionEvent')

export function eventResponse({ seq, type, data, agentId, createdAt }: SessionEvent): z.infer<typeof EventResponse> {
  return { seq, type, data, ...(agentId === null ? {} : { agentId }), createdAt: iso(createdAt) }
}

/** What an agent did or tried, as the user sees it. */
export const AuditEntryResponse = z
  .object({
    agentId: z.string().describe('Who called.'),
    route: z
      .string()
      .describe('Method and path, such as `POST /agent/progress`, or a job that LiveKit gave it, `job AJ_…`.'),
    outcome: z
      .string()
      .describe(
        [
          'Of a job, `assigned` or how it ended. `allowed`: let through by the guard; `replayed`: answered from an Idempotency-Key; otherwise the code of the',
          'refusal. When the route itself refuses what the guard let through, that is a second entry beside `allowed`.',
        ].join(' '),
      ),
    count: z.number().int().describe('Calls within one minute with this outcome.'),
    firstAt: z.iso.datetime().describe('UTC, the first of them.'),
    lastAt: z.iso.datetime().describe('UTC, the last of them.'),
  })
  .openapi('AuditEntry')

export const auditEntryResponse = ({
  agentId,
  route,
  outcome,
  count,
  firstAt,
  lastAt,
}: AuditEntry): z.infer<typeof AuditEntryResponse> => ({
  agentId,
  route,
  outcome,
  count,
  firstAt: iso(firstAt),
  lastAt: iso(lastAt),
})
