import { livekitDown } from '../scenarios/livekit-down.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('LiveKit stops', () => livekitDown(useStack))
