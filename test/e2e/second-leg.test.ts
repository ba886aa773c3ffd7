import { secondLegs } from '../scenarios/second-leg.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('a second leg of the join token', () => secondLegs(useStack))
