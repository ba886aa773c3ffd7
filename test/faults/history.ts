import fc from 'fast-check'

/** One thing that happens in a history; `session` is one of the user's, `pick` chooses among what is there. */
export type Op =
  | { op: 'join'; session: number; state: 'ACTIVE' | 'JOINING' }
  | { op: 'secondLeg' | 'leave' | 'endAsUser' | 'endAsAgent' | 'call' | 'callWhileLeaving'; session: number }
  | { op: 'deliver'; pick: number }
  | { op: 'pass'; seconds: number }
  | { op: 'finishRoom'; session: number }
  | { op: 'outage'; mode: 'error500' | 'html404' | 'reset' }
  | { op: 'recover' | 'reconcile' }
  /** The wall clock is set, while the service runs or while it is stopped; by 0 s for a mere restart. */
  | { op: 'step' | 'restart'; seconds: number }

export interface History {
  /** Both sessions in one room, or each in its own. */
  shared: boolean
  ops: Op[]
  /** What becomes of each webhook in turn. */
  fates: Fate[]
  /** The order in which undelivered webhooks arrive at the end. */
  leftOver: number
  /** LiveKit's own clock is never set; else it shows what the service's shows. */
  rightLiveKit: boolean
}

export type Fate = 'lost' | 'once' | 'twice'

export const SESSIONS = [0, 1] as const

const DAY = 24 * 60 * 60

const session = fc.constantFrom(...SESSIONS)
const of = <O extends string>(...ops: O[]) => fc.record({ op: fc.constantFrom(...ops), session })

const op: fc.Arbitrary<Op> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ op: fc.constant('join'), session, state: fc.constant('ACTIVE') }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('join'), session, state: fc.constant('JOINING') }) },
  { weight: 1, arbitrary: of('secondLeg') },
  { weight: 6, arbitrary: of('leave') },
  { weight: 8, arbitrary: of('call') },
  { weight: 2, arbitrary: of('callWhileLeaving') },
  { weight: 1, arbitrary: of('finishRoom') },
  { weight: 1, arbitrary: of('endAsUser', 'endAsAgent') },
  { weight: 10, arbitrary: fc.record({ op: fc.constant('deliver'), pick: fc.nat(50) }) },
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constant('pass'), seconds: fc.constantFrom(0.001, 0.5, 1, 4, 9, 11, 61) }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom('reconcile') }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('restart'), seconds: fc.constantFrom(0, -DAY, -60, -1, 1, 60) }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('step'), seconds: fc.constantFrom(-DAY, -60, -1, 1, 60, DAY) }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('outage'), mode: fc.constantFrom('error500', 'html404', 'reset') }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom('recover') }) },
) as fc.Arbitrary<Op>

const fate: fc.Arbitrary<Fate> = fc.oneof(
  { weight: 30, arbitrary: fc.constant('lost') },
  { weight: 50, arbitrary: fc.constant('once') },
  { weight: 20, arbitrary: fc.constant('twice') },
) as fc.Arbitrary<Fate>

export const history: fc.Arbitrary<History> = fc.record({
  shared: fc.boolean(),
  ops: fc.array(op, { minLength: 1, maxLength: 24, size: 'max' }),
  fates: fc.array(fate, { minLength: 12, maxLength: 12 }),
  leftOver: fc.nat(50),
  rightLiveKit: fc.boolean(),
})
