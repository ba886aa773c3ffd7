import { restart } from '../scenarios/restart.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('the service is restarted', () => restart(useStack))
