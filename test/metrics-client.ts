import { expect } from 'vitest'
import type { TestApp } from './support.ts'

export const METRICS_TOKEN = 'a-token-for-metrics-of-32-characters'

/** What Prometheus would read: the value of every series, by its name with its labels in order. */
export async function scrape({ app }: Pick<TestApp, 'app'>) {
  const answer = await app.request('/metrics', { headers: { Authorization: `Bearer ${METRICS_TOKEN}` } })
  expect(answer.status).toBe(200)
  const text = await answer.text()
  const series = new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  )
  return {
    text,
    series,
    /** 0 for a series that does not exist yet. */
    value: (name: string) => series.get(name) ?? 0,
  }
}

/** How much each series of that name (a prefix) has grown since `before`; those that have not are left out. */
export async function growth(t: Pick<TestApp, 'app'>, prefix: string, act: () => unknown) {
  const before = await scrape(t)
  await act()
  const after = await scrape(t)
  return Object.fromEntries(
    [...after.series]
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]): [string, number] => [name, value - before.value(name)])
      .filter(([, grown]) => grown !== 0),
  )
}
