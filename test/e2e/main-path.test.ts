import { mainPath } from '../scenarios/main-path.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('the main path', () => mainPath(useStack))
