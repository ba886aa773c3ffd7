import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Service, service, servicePort } from '../e2e/service.ts'
import { expectNoSidewaysScroll, PHONE, screenshot, useBrowser } from './browser.ts'
import { chromiumBinary } from './chromium.ts'

describe.skipIf(!chromiumBinary())('/docs in a browser', () => {
  const tabs = useBrowser()
  let folder: string
  let running: Service

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'behalf-docs-'))
    // Nothing listens there: neither the page nor what it tries needs LiveKit.
    running = await service({ folder, port: await servicePort(), livekitUrl: 'ws://127.0.0.1:2' })
    await running.start()
  })
  afterAll(async () => {
    await running.stop()
    await rm(folder, { recursive: true })
  })

  /** The page, and every address that it asked for. */
  async function openDocs(options: Parameters<typeof tabs.open>[1] = {}) {
    const page = await tabs.open('about:blank', options)
    const origins = new Set<string>()
    page.on('request', (request) => {
      if (!request.url().startsWith('data:')) origins.add(new URL(request.url()).origin)
    })
    await page.goto(`${running.url}/docs`)
    await page.getByText('A LiveKit join token, and the session it belongs to').waitFor()
    return { page, origins }
  }

  test('finds an operation by its path and tries it out without requests to other origins', async () => {
    const { page, origins } = await openDocs()
    await screenshot(page, 'docs-1-all')
    await page.getByPlaceholder(/filter/i).fill('/health/live')
    await page.getByText('A LiveKit join token, and the session it belongs to').waitFor({ state: 'hidden' })
    await page.getByText('The process answers', { exact: true }).click()
    await page.getByRole('button', { name: 'Execute' }).click()
    await page.locator('.live-responses-table .response-col_status', { hasText: '200' }).waitFor()
    await screenshot(page, 'docs-2-tried')
    expect([...origins]).toEqual([running.url])
  })

  test('fits a phone’s screen', async () => {
    const { page } = await openDocs({ viewport: PHONE })
    await screenshot(page, 'docs-3-phone')
    await expectNoSidewaysScroll(page)
  })
})
