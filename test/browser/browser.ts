import { mkdir } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type axe from 'axe-core'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest'
import { REPOSITORY } from '../e2e/binaries.ts'
import { chromiumBinary } from './chromium.ts'

const SCREENS = join(REPOSITORY, 'test-output/screens')
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js')
const RECORDER = join(import.meta.dirname, 'record-events.js')

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-fake-device-for-media-stream',
  // Media stays on this machine, with no look-up of names on the way.
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--allow-loopback-in-peer-connection',
]

export const DESKTOP = { width: 1280, height: 860 }
export const PHONE = { width: 390, height: 844 }
export const NARROW_PHONE = { width: 360, height: 740 }

export interface OpenOptions extends BrowserContextOptions {
  /** What the browser answers when the page asks for the microphone. */
  microphone?: 'granted' | 'denied'
}

export interface Tabs {
  /** A page in its own browser context, which shares nothing with other pages. */
  open: (url: string, options?: OpenOptions) => Promise<Page>
  /** A console error that this test is about; every other one fails it. */
  expectConsoleError: (pattern: RegExp) => void
}

/** One headless Chromium with a fake microphone for a file; a test's pages are closed after it. */
export function useBrowser(): Tabs {
  let browser: Browser | undefined
  let errors: string[] = []
  let expected: RegExp[] = []

  beforeAll(async () => {
    const executablePath = chromiumBinary()
    if (!executablePath) throw new Error('no Chromium')
    browser = await chromium.launch({ executablePath, args: FLAGS })
    await mkdir(SCREENS, { recursive: true })
  })

  beforeEach(() => {
    errors = []
    expected = []
  })

  afterEach(async () => {
    await Promise.all((browser?.contexts() ?? []).map((context) => context.close()))
    expect(errors.filter((error) => !expected.some((pattern) => pattern.test(error)))).toEqual([])
  })

  afterAll(async () => {
    await browser?.close()
  })

  return {
    async open(url, { microphone = 'granted', ...options } = {}) {
      if (!browser) throw new Error('the browser is not up')
      const context = await browser.newContext({
        viewport: DESKTOP,
        locale: 'en-GB',
        permissions: microphone === 'granted' ? ['microphone'] : [],
        ...options,
      })
      // Before the page's own scripts, and outside its Content-Security-Policy.
      await context.addInitScript({ path: AXE })
      await context.addInitScript({ path: RECORDER })
      const page = await context.newPage()
      page.on('console', (message) => {
        if (message.type() === 'error') errors.push(`${message.text()} (${message.location().url})`)
      })
      page.on('pageerror', (error) => errors.push(error.stack ?? error.message))
      await page.goto(url)
      return page
    },
    expectConsoleError: (pattern) => {
      expected.push(pattern)
    },
  }
}

/** One line of the list, as record-events.js saw it. */
export interface Shown {
  seq: number
  type: string
  text: string
  /** `createdAt` of the event, milliseconds. */
  createdAt: number
  /** The frame that it was painted in. */
  paintedAt: number
}

export const shownEvents = (page: Page): Promise<Shown[]> =>
  page.evaluate(() => (globalThis as unknown as { shownEvents: Shown[] }).shownEvents)

/** Kept as test output. */
export const screenshot = (page: Page, name: string) =>
  page.screenshot({ path: join(SCREENS, `${name}.png`), fullPage: true, animations: 'disabled' })

/** Fails on serious findings of axe; the others are printed. */
export async function expectAccessible(page: Page, state: string): Promise<void> {
  const { violations } = await page.evaluate(async () => {
    const { axe: inPage } = globalThis as unknown as { axe: typeof axe }
    return inPage.run()
  })
  const found = violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html).join(' ')}`)
  if (found.length > 0) console.log(`axe, ${state}:\n${found.join('\n')}`)
  expect(
    found.filter((line) => /^(serious|critical)/.test(line)),
    `axe: ${state}`,
  ).toEqual([])
}

/** Fails when the page scrolls sideways. */
export async function expectNoSidewaysScroll(page: Page): Promise<void> {
  const { scrollWidth, clientWidth } = await page.locator('html').evaluate((html) => ({
    scrollWidth: (html as unknown as { scrollWidth: number }).scrollWidth,
    clientWidth: (html as unknown as { clientWidth: number }).clientWidth,
  }))
  expect(scrollWidth).toBeLessThanOrEqual(clientWidth)
}
