import fc from 'fast-check'
import type { Fact } from '../src/sessions/lifecycle.ts'

/** Facts from webhooks; there are few sids, so that facts collide. */
export type WebhookFact = Extract<Fact, { kind: 'joined' | 'left' | 'room_finished' }>

/** A participant's sid lives in one room's sid. */
const where = fc.constantFrom(
  { sid: 'PA_1', roomSid: 'RM_1' },
  { sid: 'PA_2', roomSid: 'RM_1' },
  { sid: 'PA_3', roomSid: 'RM_2' },
  { sid: 'PA_4', roomSid: 'RM_3' },
)
const at = fc.integer({ min: 1, max: 10_000 })

export const webhookFact: fc.Arbitrary<WebhookFact> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(where, at).map(([seen, at]) => ({ kind: 'joined' as const, ...seen, at })) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(where, at, fc.boolean())
      .map(([seen, at, aborted]) => ({ kind: 'left' as const, ...seen, at, reason: 'CLIENT_INITIATED', aborted })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(where, at).map(([{ roomSid }, at]) => ({ kind: 'room_finished' as const, roomSid, at })),
  },
)

/** The same facts in any order, some of them several times. */
export const inAnotherOrder = (facts: readonly WebhookFact[]): fc.Arbitrary<WebhookFact[]> =>
  fc
    .subarray([...facts])
    .chain((repeated) => fc.shuffledSubarray([...facts, ...repeated], { minLength: facts.length + repeated.length }))

/** The same facts with the times of their arrival. */
export const renumbered = (facts: readonly WebhookFact[]): WebhookFact[] =>
  facts.map((fact, index) => ({ ...fact, at: 20_000 + index }))
