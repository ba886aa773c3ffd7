import { jwtVerify } from 'jose'
import { expect } from 'vitest'
import { z } from 'zod'
import { Problem } from '../src/http/problem.ts'
import { post, type TestApp } from './support.ts'

/** Everything that POST /token answers, and nothing else. */
const TokenAnswer = z.strictObject({
  server_url: z.string(),
  participant_token: z.string(),
  room_name: z.string(),
  participant_identity: z.string(),
  participant_name: z.string().optional(),
  session_id: z.string().optional(),
  expires_at: z.number().int(),
  url: z.string(),
  token: z.string(),
  room: z.string(),
  identity: z.string(),
})

/** Everything that a join token may contain: any further grant or an admin grant fails to parse. */
const JoinClaims = z.strictObject({
  iss: z.string(),
  sub: z.string(),
  nbf: z.number().int(),
  exp: z.number().int(),
  name: z.string().optional(),
  metadata: z.string().optional(),
  attributes: z.record(z.string(), z.string()).optional(),
  kind: z.literal('agent').optional(),
  video: z.strictObject({
    roomJoin: z.literal(true),
    room: z.string().min(1),
    canPublish: z.literal(true),
    canSubscribe: z.literal(true),
    canPublishData: z.literal(true),
    canUpdateOwnMetadata: z.literal(false).optional(),
  }),
  roomConfig: z
    .strictObject({
      emptyTimeout: z.number(),
      departureTimeout: z.number(),
      agents: z
        .array(
          z.strictObject({ agentName: z.string(), metadata: z.string(), attributes: z.record(z.string(), z.string()) }),
        )
        .length(1)
        .optional(),
    })
    .optional(),
})

type Asked = Pick<TestApp, 'app' | 'secrets' | 'clock'>

/** The answer of a minting that worked; throws for any other. */
export async function minted(answer: Response | Promise<Response>) {
  const given = await answer
  expect(given.status).toBe(201)
  expect(given.headers.get('Cache-Control')).toBe('no-store')
  return TokenAnswer.parse(await given.json())
}

export const mint = ({ app }: Pick<TestApp, 'app'>, bearer: string, request: unknown = {}) =>
  minted(post(app, '/token', request, bearer))

/** A join token's claims, once LiveKit's own key pair has verified it. */
export async function joinClaims({ secrets, clock }: Omit<Asked, 'app'>, token: string) {
  const { payload, protectedHeader } = await jwtVerify(token, Buffer.from(secrets.livekit.secret), {
    algorithms: ['HS256'],
    issuer: secrets.livekit.key,
    currentDate: new Date(clock.now()),
  })
  expect(protectedHeader.kid).toBeUndefined()
  return JoinClaims.parse(payload)
}

/** The agent that the token dispatches, with its job's attributes and metadata. */
export async function dispatchOf(t: Asked, token: string) {
  const agent = (await joinClaims(t, token)).roomConfig?.agents?.[0]
  return agent && { name: agent.agentName, job: agent.attributes, metadata: agent.metadata }
}

/** Status, code and the fields that a refusal names; fails for what is no well-formed problem. */
export async function refusedFields(answer: Response | Promise<Response>) {
  const refused = await answer
  expect(refused.headers.get('Content-Type')).toBe('application/problem+json')
  const { status, code, errors = [] } = z.strictObject(Problem.shape).parse(await refused.json())
  expect(status).toBe(refused.status)
  return { status, code, fields: [...new Set(errors.map(({ field }) => field))] }
}
