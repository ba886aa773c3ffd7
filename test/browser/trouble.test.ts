import { beforeAll, describe, expect, test } from 'vitest'
import { until } from '../e2e/processes.ts'
import { describeWithLiveKit } from '../e2e/stack.ts'
import { expectAccessible, screenshot, useBrowser } from './browser.ts'
import { chromiumBinary } from './chromium.ts'
import { refusals, untilText } from './look.ts'
import { watchPerson } from './person.ts'
import { useDemoStack } from './worker.ts'

const AGENT = 'absent-agent'
/** livekit-client may hear of its channels' end before that of the connection. */
const CHANNELS_FIRST = /DataChannel error|data channel .* closed unexpectedly/

describe.skipIf(!chromiumBinary())('the demo in a browser explains and recovers', () => {
  describeWithLiveKit('the demo page says what is wrong', () => {
    const { stack, createAgent } = useDemoStack(AGENT)
    const tabs = useBrowser()
    const url = () => `${stack().service.url}/demo`
    beforeAll(async () => {
      await createAgent()
    })

    test('when the microphone is denied, and starts nothing', async () => {
      const page = await tabs.open(url(), { microphone: 'denied' })
      const person = watchPerson(page)
      await page.getByRole('button', { name: 'Continue as guest' }).click()
      await page.getByRole('button', { name: 'Start call' }).click()
      await page.getByRole('alert').filter({ hasText: 'The microphone is blocked' }).waitFor()
      await page.getByRole('button', { name: 'Start call' }).waitFor()
      await expectAccessible(page, 'microphone denied')
      await screenshot(page, 'desktop-light-5-microphone-denied')
      const { body } = await stack().api.request('GET', '/sessions', { bearer: (await person.user()).bearer })
      expect(body).toEqual({ sessions: [] })
    })

    test('when no agent joins', async () => {
      const page = await tabs.open(url())
      await page.getByRole('button', { name: 'Continue as guest' }).click()
      await page.getByRole('button', { name: 'Start call' }).click()
      await untilText(page, '#connection', 'connected')
      await page.getByRole('alert').filter({ hasText: 'No agent has come' }).waitFor()
      await untilText(page, '#agent', 'none has come')
      await expectAccessible(page, 'no agent')
      await screenshot(page, 'desktop-light-6-no-agent')
    })

    test('when LiveKit cannot be reached, and continues once it can', async () => {
      const page = await tabs.open(url())
      const person = watchPerson(page)
      await page.getByRole('button', { name: 'Continue as guest' }).click()
      await stack().livekit.kill()
      tabs.expectConsoleError(/ERR_CONNECTION_REFUSED/)
      await page.getByRole('button', { name: 'Start call' }).click()
      await page.getByRole('alert').filter({ hasText: 'LiveKit cannot be reached at ws://127.0.0.1:' }).waitFor()
      await page.getByRole('button', { name: 'Let the agent try now' }).click()
      await until('the agent is refused', async () => (await refusals(page)).length > 0)
      expect(await refusals(page)).toEqual([
        expect.stringMatching(/LiveKit could not say .*liveness_unknown503 refused$/),
      ])
      await expectAccessible(page, 'no LiveKit')
      await screenshot(page, 'desktop-light-7-no-livekit')
      const sessionId = await person.sessionId()
      expect(await page.getByRole('button', { name: /call/ }).allTextContents()).not.toContain('End call')

      await stack().livekit.start()
      await page.getByRole('button', { name: 'Try again' }).click()
      await untilText(page, '#status', 'live')
      expect(await page.getByRole('alert').count()).toBe(0)
      expect(await person.sessionId()).toBe(sessionId)
    })

    test('when the service does not hold the agent’s secret', async () => {
      const page = await tabs.open(url())
      await page.route('**/demo/agent-call', (route) => route.fulfill({ status: 404 }))
      tabs.expectConsoleError(/404.*agent-call/)
      await page.getByRole('button', { name: 'Continue as guest' }).click()
      await page.getByRole('button', { name: 'Start call' }).click()
      await page.getByRole('button', { name: 'Let the agent try now' }).click()
      await page.getByRole('alert').filter({ hasText: 'Only the one that `npm run demo` starts does' }).waitFor()
    })

    test('when another tab takes over the call', async () => {
      const page = await tabs.open(url())
      await page.getByRole('button', { name: 'Continue as guest' }).click()
      await page.getByRole('button', { name: 'Start call' }).click()
      await untilText(page, '#status', 'live')
      // As "duplicate tab" does: the tab's storage comes along.
      const kept = await page.evaluate(() => JSON.stringify((globalThis as { sessionStorage?: object }).sessionStorage))
      const other = await page.context().newPage()
      await other.goto(`${stack().service.url}/health/live`)
      await other.evaluate((values) => {
        const { sessionStorage } = globalThis as unknown as { sessionStorage: object }
        Object.assign(sessionStorage, JSON.parse(values))
      }, kept)
      tabs.expectConsoleError(CHANNELS_FIRST)
      await other.goto(url())
      await untilText(other, '#connection', 'connected')
      await page.getByRole('alert').filter({ hasText: 'open in another tab' }).waitFor()
      await untilText(other, '#status', 'live')
    })

    test('when the user was signed out in the meantime', async () => {
      const page = await tabs.open(url())
      await page.getByRole('button', { name: 'Continue as guest' }).click()
      await page.getByRole('button', { name: 'Start call' }).waitFor()
      await page.evaluate(() => {
        const { sessionStorage } = globalThis as unknown as { sessionStorage: Record<string, string> }
        sessionStorage['behalf.refresh'] = 'revoked'
      })
      tabs.expectConsoleError(/401.*\/auth\/refresh/)
      await page.reload()
      await page.getByRole('alert').filter({ hasText: 'You were signed out' }).waitFor()
      await page.getByRole('button', { name: 'Continue as guest' }).waitFor()
      await expectAccessible(page, 'signed out')
      await screenshot(page, 'desktop-light-8-signed-out-meanwhile')
    })

    test('when the service is down for a while, without losing an event', async () => {
      const { service, api } = stack()
      const page = await tabs.open(url())
      const person = watchPerson(page)
      await page.getByRole('button', { name: 'Continue as guest' }).click()
      await page.getByRole('button', { name: 'Start call' }).click()
      await untilText(page, '#status', 'live')
      tabs.expectConsoleError(/ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)/)
      // The room is deleted under livekit-client.
      tabs.expectConsoleError(CHANNELS_FIRST)
      await service.stop()
      await service.start()
      await api.end(await person.user(), await person.sessionId())
      await untilText(page, '#status', 'ended')
      await until('the room is left', async () => (await page.locator('#connection').textContent()) === 'not connected')
      expect(await page.locator('#events li').evaluateAll((lines) => lines.map((line) => line.textContent))).toEqual([
        expect.stringMatching(/Session live: /),
        expect.stringMatching(/Session ended: /),
      ])
    })
  })
})
