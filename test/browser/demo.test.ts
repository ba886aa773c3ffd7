import type { Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { Agent } from '../e2e/api.ts'
import { workerInstalled } from '../e2e/binaries.ts'
import { type RunningProcess, until } from '../e2e/processes.ts'
import { describeWithLiveKit } from '../e2e/stack.ts'
import {
  expectAccessible,
  expectNoSidewaysScroll,
  NARROW_PHONE,
  PHONE,
  type Shown,
  screenshot,
  shownEvents,
  useBrowser,
} from './browser.ts'
import { chromiumBinary } from './chromium.ts'
import { level, listed, refusals, tabTo, untilFocused, untilReports, untilText } from './look.ts'
import { watchPerson } from './person.ts'
import { startWorker, useDemoStack } from './worker.ts'

const AGENT = 'demo-agent'
const MOBILE = { hasTouch: true, isMobile: true }
const Step = z.object({ step: z.number() })

describe.skipIf(!chromiumBinary() || !workerInstalled())('the demo in a browser', () => {
  describeWithLiveKit('the demo page', () => {
    const { stack, createAgent } = useDemoStack(AGENT)
    const tabs = useBrowser()
    let agent: Agent
    let worker: RunningProcess | undefined
    const url = () => `${stack().service.url}/demo`

    beforeAll(async () => {
      agent = await createAgent()
      worker = await startWorker(stack(), agent)
    })
    beforeEach(({ onTestFailed }) => {
      onTestFailed(() => console.log(`--- the worker's log\n${worker?.log()}`))
    })
    afterAll(async () => {
      await worker?.stop('SIGINT')
    })

    test('lets a guest call, see the agent’s progress, reload during the call and hang up', async () => {
      const page = await tabs.open(url())
      const person = watchPerson(page)
      await page.getByRole('heading', { name: 'Talk to an agent' }).waitFor()
      await expectAccessible(page, 'signed out')
      await screenshot(page, 'desktop-light-1-signed-out')

      await page.getByRole('button', { name: 'Continue as guest' }).click()
      await page.getByRole('button', { name: 'Start call' }).waitFor()
      await untilText(page, '#status', 'none yet')
      await expectAccessible(page, 'ready')
      await screenshot(page, 'desktop-light-2-ready')

      await page.getByRole('button', { name: 'Start call' }).click()
      await untilText(page, '#connection', 'connected')
      await untilText(page, '#status', 'live')
      await untilText(page, '#agent', 'in the call, listening', 40)
      const reports = await untilReports(page, 4)
      await until('the microphone is heard', async () => Number(await level(page)) > 0)
      await page.getByLabel('Microphone').selectOption('Fake Audio Input 1')
      await until('the other microphone is heard', async () => Number(await level(page)) > 0)
      await until('the agent has a level', async () =>
        (await page.locator('#agent-level-text').textContent())?.endsWith(' %'),
      )
      await expectAccessible(page, 'in the call')
      await screenshot(page, 'desktop-light-3-in-the-call')

      const latencies = reports.map(({ createdAt, paintedAt }) => paintedAt - createdAt)
      for (let round = 0; round < 5; round++) latencies.push(await postAndSee(page))
      console.log(`progress posted -> on the screen: ${latencies.join(', ')} ms`)
      expect(Math.max(...latencies)).toBeLessThan(1000)

      const before = await listed(page)
      const reloadedAt = Date.now()
      await page.reload()
      await untilText(page, '#connection', 'connected')
      await untilText(page, '#status', 'live')
      await untilText(page, '#device option:checked', 'Fake Audio Input 1')
      const isReport = ({ type, createdAt }: Shown) => type !== 'session.status' && createdAt > reloadedAt
      await until('the agent goes on', async () => (await shownEvents(page)).filter(isReport).length >= 2, 30)
      const after = await listed(page)
      expect(after.slice(0, before.length)).toEqual(before)
      // Numbered without gap and without repeat; every event that the service has, as it has it.
      expect(after).toEqual(after.map((_, index) => index + 1))
      const { api } = stack()
      const [user, sessionId] = [await person.user(), await person.sessionId()]
      const events = await api.events(user, sessionId)
      expect(events.slice(0, after.length).map(({ seq }) => seq)).toEqual(after)
      // The agent's own count has no gap either: it posted again what was refused in the meantime.
      const steps = events.flatMap(({ data }) => Step.safeParse(data).data?.step ?? [])
      expect(steps).toEqual(steps.map((_, index) => index + 1))

      await page.getByRole('button', { name: 'End call' }).click()
      await untilText(page, '#status', 'ended')
      await untilText(page, '#summary', 'The call has ended: you hung up. From here on the agent is refused.')
      await untilText(page, '#connection', 'not connected')
      expect((await api.session(user, sessionId)).status).toBe('ended')
      await until('the list has the end', async () =>
        (await page.locator('#events li[data-seq]').last().textContent())?.includes('Session ended'),
      )
      await expectAccessible(page, 'ended')
      await screenshot(page, 'desktop-light-4-ended')

      await page.reload()
      await untilText(page, '#status', 'ended')
      await page.getByRole('button', { name: 'Start a new call' }).click()
      await untilText(page, '#status', 'live')
      await until('it is another session', async () => (await person.sessionId()) !== sessionId)

      async function postAndSee(page: Page): Promise<number> {
        const pair = { userId: (await person.user()).id, sessionId: await person.sessionId() }
        const postedAt = Date.now()
        const { status, body } = await stack().api.progress(agent, {
          ...pair,
          data: { message: 'Asked by the test' },
        })
        expect(status).toBe(201)
        const { seq } = body as { seq: number }
        const shown = await until('the event is on the screen', async () =>
          (await shownEvents(page)).find((event) => event.seq === seq),
        )
        return shown.paintedAt - postedAt
      }
    }, 120_000)

    test.each([
      ['desktop-light', {}],
      ['desktop-dark', { colorScheme: 'dark' as const }],
      ['phone-light', { ...MOBILE, viewport: PHONE }],
      ['phone-dark', { ...MOBILE, viewport: PHONE, colorScheme: 'dark' as const }],
      ['narrow-phone', { ...MOBILE, viewport: NARROW_PHONE }],
    ])(
      'shows the guard at work: %s',
      async (name, options) => {
        const page = await tabs.open(url(), options)
        const person = watchPerson(page)
        const shot = async (state: string) => {
          await expectNoSidewaysScroll(page)
          await expectAccessible(page, `${name}, ${state}`)
          await screenshot(page, `guard-${name}-${state}`)
        }
        await page.getByRole('button', { name: 'Continue as guest' }).waitFor()
        await shot('0-signed-out')
        await page.getByRole('button', { name: 'Continue as guest' }).click()
        await page.getByRole('button', { name: 'Start call' }).waitFor()
        await shot('1-before')
        await page.getByRole('button', { name: 'Start call' }).click()
        await untilText(page, '#agent', 'in the call, listening', 40)
        await untilReports(page, 2)
        const [{ id: userId }, sessionId] = [await person.user(), await person.sessionId()]
        expect(await page.locator('#user-id').textContent()).toBe(userId)
        expect(await page.locator('#session-id').textContent()).toBe(sessionId)
        const claims = JSON.parse((await page.locator('#claims').textContent()) ?? '')
        expect(claims).toMatchObject({ sub: userId, attributes: { userId, sessionId } })

        await page.getByRole('button', { name: 'Let the agent try now' }).click()
        await until('the call is accepted', async () =>
          (await shownEvents(page)).some(({ text }) => /as you asked.*201 accepted$/.test(text)),
        )
        expect(await refusals(page)).toEqual([])
        await page.getByRole('button', { name: 'Try with another user’s id' }).click()
        await until('the other user’s id is refused', async () => (await refusals(page)).length > 0)
        expect(await refusals(page)).toEqual([
          expect.stringMatching(
            /With another user’s id, …\w+: This user has no session .*session_mismatch403 refused$/,
          ),
        ])
        await shot('2-live')

        await page.getByRole('button', { name: 'End call' }).click()
        await untilText(page, '#status', 'ended')
        const ended = /has ended[.:].*session_ended409 refused$/
        const endedCount = async () => (await refusals(page)).filter((text) => ended.test(text)).length
        await until('the worker’s own next call is refused', async () => (await endedCount()) >= 1)
        const byWorker = await endedCount()
        await page.getByRole('button', { name: 'Let the agent try now' }).click()
        await until('the call by hand is refused', async () => (await endedCount()) > byWorker)
        await shot('3-refused')
        await page.locator('summary').click()
        await shot('4-claims')
      },
      120_000,
    )

    test('works with an account, by keyboard alone', async () => {
      const page = await tabs.open(url(), { colorScheme: 'dark' })
      const email = `${Date.now()}@example.com`
      await screenshot(page, 'desktop-dark-1-signed-out')
      await tabTo(page, 'E-mail')
      await page.keyboard.type(email)
      await page.keyboard.press('Tab')
      await page.keyboard.type('short')
      await tabTo(page, 'Create account')
      await page.keyboard.press('Enter')
      // The browser's own message holds the focus where something is to be done.
      await untilFocused(page, 'Password')
      await page.keyboard.press('Control+A')
      await page.keyboard.type('correct horse battery staple')
      await tabTo(page, 'Create account')
      await page.keyboard.press('Enter')
      await untilText(page, '#who', email)

      await tabTo(page, 'Start call')
      await page.keyboard.press('Enter')
      await untilText(page, '#connection', 'connected')
      await untilReports(page, 3)
      await tabTo(page, 'Mute')
      await page.keyboard.press('Space')
      await untilText(page, '#level-text', 'muted')
      expect(await page.getByRole('button', { name: 'Mute' }).getAttribute('aria-pressed')).toBe('true')
      await expectAccessible(page, 'in the call, dark')
      await screenshot(page, 'desktop-dark-2-muted')

      await tabTo(page, 'End call')
      await page.keyboard.press('Enter')
      await untilText(page, '#status', 'ended')
      await tabTo(page, 'Sign out')
      await page.keyboard.press('Enter')
      await page.getByRole('heading', { name: 'Talk to an agent' }).waitFor()

      await page.getByLabel('E-mail').fill(email)
      await page.getByLabel('Password').fill('a wrong password')
      tabs.expectConsoleError(/401.*\/auth\/login/)
      await page.getByRole('button', { name: 'Sign in', exact: true }).click()
      await page.getByRole('alert').filter({ hasText: 'password' }).waitFor()
      await expectAccessible(page, 'refused, dark')
      await screenshot(page, 'desktop-dark-3-refused')
      await page.getByLabel('Password').fill('correct horse battery staple')
      await page.getByRole('button', { name: 'Sign in', exact: true }).click()
      await untilText(page, '#who', email)
      expect(await page.locator('#events li').count()).toBe(0)
    }, 120_000)
  })
})
