import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { renderProblem } from '../src/http/problem.ts'
import { createRouter } from '../src/http/router.ts'
import { contentSecurityPolicy, demoPage } from '../src/ops/demo.ts'
import { makeApp } from './support.ts'

const LIVEKIT = 'ws://127.0.0.1:7880'

function served(built?: URL) {
  const router = createRouter()
  router.onError((error, c) => renderProblem(error, c, pino({ level: 'silent' })))
  router.use('/demo/*', demoPage(LIVEKIT, built))
  return router
}

test('the demo page and its assets are served with revalidation', async () => {
  const page = await served().request('/demo')
  const html = await page.text()
  expect(page.status).toBe(200)
  expect(page.headers.get('Content-Type')).toBe('text/html; charset=utf-8')
  expect(page.headers.get('Cache-Control')).toBe('no-cache')
  const loaded = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path)
  expect(loaded.sort()).toEqual(['demo/icon.svg', 'demo/page.css', 'demo/page.js'])
  for (const path of loaded) expect((await served().request(`/${path}`)).status, path).toBe(200)
  expect(html).not.toMatch(/<style|style="|\son\w+="|<script(?! type="module" src=)/)
})

test.each([
  [{}, '/demo'],
  [{ DEMO: 'off' }, '/docs'],
])('the root leads to what there is to see, with %j to %s', async (env, path) => {
  const { bare } = await makeApp({ env })
  const answer = await bare(new Request('http://localhost/'))
  expect(answer.status).toBe(302)
  expect(new URL(answer.headers.get('Location') ?? '', 'http://localhost/').pathname).toBe(path)
  expect(await answer.text(), 'for a terminal').toMatch(new RegExp(`^See http://.*${path}\n$`))
})

test('the demo serves no other file of its folder', async () => {
  for (const path of ['/demo/index.html', '/demo/../package.json', '/demo/page.js.map', '/demo/x']) {
    expect((await served().request(path)).status, path).toBe(404)
  }
  expect((await served().request('/demo', { method: 'POST' })).status).toBe(404)
  expect((await served().request('/demo/')).headers.get('Location')).toBe('../demo')
})

test('the demo’s content security policy allows only this service and LiveKit', async () => {
  const policy = (await served().request('/demo')).headers.get('Content-Security-Policy')
  expect(policy).toBe(contentSecurityPolicy(LIVEKIT))
  expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'")
  expect(policy).toContain("connect-src 'self' ws://127.0.0.1:7880 http://127.0.0.1:7880;")
  expect(contentSecurityPolicy('wss://livekit.example.com/base')).toContain(
    "connect-src 'self' wss://livekit.example.com https://livekit.example.com;",
  )
  expect(contentSecurityPolicy('https://acme.livekit.cloud')).toContain(
    'wss://acme.livekit.cloud https://acme.livekit.cloud wss://*.livekit.cloud https://*.livekit.cloud;',
  )
})

test('a demo page that was not built says so', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'behalf-demo-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const answer = await served(pathToFileURL(`${folder}/`)).request('/demo')
  expect(answer.status).toBe(404)
  expect(await answer.json()).toMatchObject({ detail: 'This page has not been built: run `npm run build`.' })
})

test('DEMO=off serves no demo page', async () => {
  const { app } = await makeApp({ env: { DEMO: 'off' } })
  expect((await app.request('/demo')).status).toBe(404)
  expect((await app.request('/demo/page.js')).status).toBe(404)
})
