import { twoTabs } from '../scenarios/two-tabs.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('two tabs of one user', () => twoTabs(useStack))
