import type { Page } from 'playwright-core'
import { until } from '../e2e/processes.ts'
import { type Shown, shownEvents } from './browser.ts'

export const level = (page: Page) => page.locator('#level').getAttribute('value')
export const untilText = (page: Page, selector: string, text: string, seconds = 20) =>
  until(`${selector} says “${text}”`, async () => (await page.locator(selector).textContent()) === text, seconds)

/** The seq of each event, in order. */
export const listed = async (page: Page): Promise<number[]> => {
  const lines = await page.locator('#events li[data-seq]').all()
  return Promise.all(lines.map(async (line) => Number(await line.getAttribute('data-seq'))))
}

/** What each refusal in the list says. */
export const refusals = (page: Page): Promise<string[]> =>
  page.locator('#events li:has(.refused)').evaluateAll((lines) => lines.map(({ textContent }) => textContent ?? ''))

/** Waits for that many lines of progress; a worker's first job takes seconds to start. */
export const untilReports = (page: Page, count: number): Promise<Shown[]> =>
  until(
    `${count} lines of progress`,
    async () => {
      const reports = (await shownEvents(page)).filter(({ type }) => type !== 'session.status')
      return reports.length >= count && reports
    },
    40,
  )

/** The label, or else the text, of what has the focus. */
const focused = (page: Page): Promise<string> =>
  page.evaluate(() => {
    interface Focused {
      labels?: ArrayLike<{ textContent: string }>
      textContent: string
    }
    const { activeElement } = (globalThis as unknown as { document: { activeElement: Focused } }).document
    return (activeElement.labels?.[0] ?? activeElement).textContent.trim()
  })

export const untilFocused = (page: Page, name: string) =>
  until(`${name} has the focus`, async () => (await focused(page)) === name)

/** Presses Tab until it is there. */
export async function tabTo(page: Page, name: string): Promise<void> {
  for (let presses = 0; presses < 30; presses++) {
    if ((await focused(page)) === name) return
    await page.keyboard.press('Tab')
  }
  throw new Error(`Tab never reaches ${name}`)
}
