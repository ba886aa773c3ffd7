import { describe } from 'vitest'
import { endedSession } from '../scenarios/ended-session.ts'
import { livekitDown } from '../scenarios/livekit-down.ts'
import { mainPath } from '../scenarios/main-path.ts'
import { restart } from '../scenarios/restart.ts'
import { secondLegs } from '../scenarios/second-leg.ts'
import { twoTabs } from '../scenarios/two-tabs.ts'
import { withoutWebhooks } from '../scenarios/without-webhooks.ts'
import { useFakeStack } from './stack.ts'

// What test/e2e runs against livekit-server, against the fake: so that what is tested with the fake alone can be believed.
describe('the main path', () => mainPath(useFakeStack))
describe('two tabs of one user', () => twoTabs(useFakeStack))
describe('an ended session', () => endedSession(useFakeStack))
describe('with webhooks switched off', () => withoutWebhooks(useFakeStack))
describe('the service is restarted', () => restart(useFakeStack))
describe('LiveKit stops', () => livekitDown(useFakeStack))
describe('a second leg of the join token', () => secondLegs(useFakeStack))
