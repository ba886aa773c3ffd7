import { z } from '@hono/zod-openapi'
import { MeResponse } from '../auth/schemas.ts'
import { isShallow } from '../http/json.ts'
import { strictObject } from '../http/router.ts'
import { EventResponse, SessionResponse } from '../sessions/json.ts'
import { JOB_ENDS, type Job } from '../store/jobs.ts'
import type { Session, SessionEvent } from '../store/sessions.ts'
import { Pair } from './agent-route.ts'

/** How many past events of a session an agent gets. */
export const CONTEXT_EVENTS = 100

const JsonObject = z.record(z.string(), z.unknown()).refine(isShallow, 'is nested too deeply')

export const ProgressRequest = Pair.extend({
  type: z
    .string()
    .max(64)
    .regex(
      /^(?!session\.|agent\.)[a-z][a-z0-9_.-]*$/,
      'is a-z, 0-9, _ . and -, begins with a letter, and not with session. or agent.',
    )
    .default('progress')
    .describe('Kind of the event, which the user reads; `session.…` and `agent.…` are reserved for the service.'),
  data: JsonObject.openapi({
    description: 'What the user reads at `GET /sessions/{id}/events`: any JSON object of at most 32 levels.',
    example: { status: 'done' },
  }),
}).openapi('Progress')

export const EndRequest = Pair.extend({
  reason: z
    .string()
    .min(1)
    .max(256)
    // A pattern with flags would be none of JSON Schema's.
    .refine(
      (reason) => /^[\P{Cc}\t\n\r]*$/u.test(reason),
      'must not hold control characters other than line breaks and tabs',
    )
    .optional()
    .describe('The reason in words, stored as `detail` of the last `session.status` event. `endReason` is `agent`.'),
  result: JsonObject.optional().describe(
    'The outcome, stored as `result` of the last `session.status` event: any JSON object of at most 32 levels.',
  ),
}).openapi('EndSession')

export const CallRequest = strictObject({
  userId: Pair.shape.userId,
  to: z
    .string()
    .regex(/^\+[1-9]\d{1,14}$/, 'is a phone number in E.164, such as +4930123456')
    .openapi({
      description: 'The user’s phone number, in E.164. The person who answers counts as the user.',
      example: '+4930123456',
    }),
}).openapi('PlaceCall')

export const StoredResponse = z
  .object({
    sessionId: z.string().describe('As sent.'),
    seq: z.number().int().describe('The event’s number in the session.'),
    createdAt: z.iso.datetime().describe('UTC, when it was stored.'),
  })
  .openapi('StoredEvent')

export const stored = ({ id }: Pick<Session, 'id'>, { seq, createdAt }: SessionEvent) => ({
  sessionId: id,
  seq,
  createdAt: new Date(createdAt).toISOString(),
})

export const ContextResponse = z
  .object({
    user: MeResponse,
    session: SessionResponse,
    assignment: z
      .object({
        jobId: z.string().describe('LiveKit’s id of the job, `AJ_…`.'),
        workerId: z.string().describe('LiveKit’s id of the worker, `AW_…`.'),
        assignedAt: z.iso.datetime().describe('UTC.'),
        endedAt: z.iso.datetime().optional().describe('UTC. Absent while it runs.'),
        end: z.enum(JOB_ENDS).optional().describe('How it ended. Absent while it runs.'),
      })
      .optional()
      .describe('This agent’s newest job in the session; absent unless its worker connects through this service.'),
    events: z.array(EventResponse).describe(`The last ${CONTEXT_EVENTS} at most, oldest first, up to 256 KiB of data.`),
    cursor: z.number().int().describe('`seq` of the newest event, 0 without one.'),
  })
  .openapi('Context')

export const assignmentResponse = ({ id, workerId, assignedAt, endedAt, end }: Job) => ({
  jobId: id,
  workerId,
  assignedAt: new Date(assignedAt).toISOString(),
  ...(endedAt === null || end === null ? {} : { endedAt: new Date(endedAt).toISOString(), end }),
})
