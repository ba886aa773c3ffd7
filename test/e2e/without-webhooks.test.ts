import { withoutWebhooks } from '../scenarios/without-webhooks.ts'
import { describeWithLiveKit, useStack } from './stack.ts'

describeWithLiveKit('with webhooks switched off', () => withoutWebhooks(useStack))
