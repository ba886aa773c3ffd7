import { endedSession } from '../scenarios/ended-session.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('an ended session', () => endedSession(useStack))
